"""Phantom classes: pixels near a boundary of two classes that are read as neither, because colours were mixed there."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d
from torchmetrics import Metric

from gss.labels import IGNORE
from gss.maskige.inverse import SoftDistance
from gss.maskige.transform import MaskigeTransform
from gss.metrics.boundaries import occurs_near, square, touches_another


class PhantomClassRate(Metric):
    """Share of boundary pixels that are predicted as a class which does not occur around them (`third_class_rate`).

    A labelled pixel belongs to the boundary band if the square of `width` pixels to each side of it holds another class
    too. Counts are pooled over all pixels seen and summed over processes.

    Args:
        width: of the band to each side of a boundary, pixels.
    """

    full_state_update = False
    phantom: Tensor
    band: Tensor

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.width = width
        for name in ("phantom", "band"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted_labels: Tensor, labels: Tensor) -> None:
        """Adds a batch: two (B, H, W) int64; predicted in [0, K), labels in [0, K) or 255, which is left out."""
        around = square(self.width)
        band = touches_another(labels.short(), around)
        present = occurs_near(predicted_labels.short(), labels.short(), around)
        self.band += band.sum()
        self.phantom += (band & ~present).sum()

    def compute(self) -> Tensor:
        """The rate in [0, 1], a scalar float64; nan if no two classes meet."""
        return self.phantom.double() / self.band if self.band else torch.tensor(math.nan, dtype=torch.float64)


def blurred_phantom_class_rate(
    transform: MaskigeTransform, label_maps: Iterable[Tensor], blur: int = 5, width: int = 3
) -> float:
    """The rate for maskiges that are only blurred: what a palette does to boundaries, whatever the tokenizer.

    Args:
        transform: paints the labels and reads the blurred maskiges by nearest colour.
        label_maps: each (B, H, W) int64 in [0, K) or 255; ignored pixels are left out of the blur.
        blur: side of the square over which colours are averaged, pixels, odd.
        width: of the band, pixels.

    Returns:
        The rate in [0, 1]; nan if no two classes meet.
    """
    rate, nearest = PhantomClassRate(width), SoftDistance()
    for labels in label_maps:
        labelled = (labels != IGNORE)[:, None].float()
        painted, share = (avg_pool2d(x, blur, 1, blur // 2) for x in (transform.paint(labels) * labelled, labelled))
        rate.update(nearest(painted / share.clamp(min=1e-6), transform.colours).argmax(dim=1), labels)
    return float(rate.compute())
