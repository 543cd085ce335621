"""Boundary IoU: the IoU of each class in a band along its outlines alone, which a large interior cannot hide."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchmetrics import Metric

from gss.labels import IGNORE
from gss.metrics import mean_present


class BoundaryIoU(Metric):
    """IoU of the bands inside the outlines of each class, pooled over the data set.

    |(G_d and G) and (P_d and P)| / |(G_d and G) or (P_d and P)| (Cheng et al., "Boundary IoU: improving object-centric
    image segmentation evaluation", CVPR 2021, equation 2), where G and P are the true and the predicted mask and G_d,
    P_d the pixels within d of their contours. The paper scores single objects; here the mask of a class is all its
    pixels in a picture, and both counts are pooled over pictures and processes before they are divided, as in the
    confusion matrix.

    As in the paper's code, d is `dilation_ratio` of the picture's diagonal, rounded and at least 1; the distance is
    that of the chessboard; and the border of the picture is a contour. Ignored pixels are taken for outside of the
    picture, in the true and the predicted mask: they are not counted, and classes end where they begin.

    Args:
        num_classes: K.
        dilation_ratio: d as a share of the picture's diagonal.
    """

    full_state_update = False
    bands: Tensor

    def __init__(self, num_classes: int, dilation_ratio: float = 0.02) -> None:
        super().__init__()
        self.num_classes, self.dilation_ratio = num_classes, dilation_ratio
        # pixels of the true band, of the predicted one, and of both with the same class
        self.add_state("bands", torch.zeros(3, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted_labels: Tensor, labels: Tensor) -> None:
        """Adds a batch: two (B, H, W) int64; predicted in [0, K), labels in [0, K) or 255, which is left out."""
        reach = max(1, round(self.dilation_ratio * math.hypot(labels.shape[1], labels.shape[2])))
        true = labels.byte()
        predicted = torch.where(true == IGNORE, true, predicted_labels.byte())
        in_true, in_predicted = (_inner_band(drawn, reach) for drawn in (true, predicted))
        both = in_true & in_predicted & (true == predicted)
        found = ((true, in_true), (predicted, in_predicted), (true, both))
        self.bands += torch.stack([self._by_class(drawn, band) for drawn, band in found])

    def compute(self) -> Tensor:
        """Boundary IoU per class in [0, 1]: (K,) float64, nan for a class that occurs nowhere."""
        true, predicted, both = self.bands.double()
        iou: Tensor = both / (true + predicted - both)
        return iou

    def mean(self) -> float:
        """Mean in [0, 1] over the classes that occur; nan if there is none."""
        return mean_present(self.compute())

    def _by_class(self, drawn: Tensor, band: Tensor) -> Tensor:
        """Counts (K,) int64 of the pixels of a band, (B, H, W) bool, in labels (B, H, W) uint8."""
        inside = torch.where(band, drawn, IGNORE).flatten()  # counted and cut off, which is faster than picked out
        return torch.bincount(inside, minlength=IGNORE + 1)[: self.num_classes]


def _inner_band(labels: Tensor, reach: int) -> Tensor:
    """Whether another class, ignored pixels or the border are within reach: (B, H, W) bool, False on ignored pixels.

    Args:
        labels: (B, H, W) uint8 in [0, K) or 255.
        reach: of the square around each pixel, to each side.
    """
    around = pad(labels, [reach] * 4, value=IGNORE)
    highest, lowest = _over_windows(around, reach, torch.maximum), _over_windows(around, reach, torch.minimum)
    return (highest != lowest) & (labels != IGNORE)


def _over_windows(values: Tensor, reach: int, larger: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The largest (or smallest) value in the square around each pixel: (B, H, W) of (B, H + 2 reach, W + 2 reach).

    The two sides come one after the other, each by doubling: the largest of 2 n values is the larger of two of n.
    """
    side = 2 * reach + 1
    for dim in (1, 2):
        covered = 1
        while covered < side:
            step = min(covered, side - covered)
            length = values.shape[dim] - step
            values = larger(values.narrow(dim, 0, length), values.narrow(dim, step, length))
            covered += step
    return values
