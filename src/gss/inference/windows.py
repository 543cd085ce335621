"""Sliding windows: where they lie, what each counts in an overlap, and their average from top to bottom."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gss.inference.bands import Band, Segment
from gss.inference.sizes import Size

SIGMA = 1 / 8  # of blend=gaussian, in windows: the customary value


def starts(length: int, window: int, step: int) -> list[int]:
    """Where windows begin along one axis: every `step` pixels, the last moved back to the border."""
    number = math.ceil(max(length - window, 0) / step) + 1
    return [min(place * step, max(length - window, 0)) for place in range(number)]


def _uniform(places: Tensor) -> Tensor:
    return torch.ones_like(places)


def _hann(places: Tensor) -> Tensor:
    return torch.sin(torch.pi * places) ** 2


def _gaussian(places: Tensor) -> Tensor:
    return torch.exp(-0.5 * ((places - 0.5) / SIGMA) ** 2)


BLENDS = {"uniform": _uniform, "hann": _hann, "gaussian": _gaussian}
"""What a pixel counts by its place within a window, (n,) float in (0, 1)."""


@dataclass(frozen=True)
class Axis:
    """The windows of a picture along one axis.

    Args:
        starts: first pixel of each.
        weights: what each pixel of a window counts, (window,) float32 above 0.
        totals: what the windows over each pixel of the picture count together, (length,) float32.
    """

    starts: list[int]
    weights: Tensor
    totals: Tensor

    @classmethod
    def of(cls, length: int, window: int, step: int, blend: str) -> Axis:
        """Windows along an axis of `length` pixels; where there is only one, all its pixels count the same."""
        window = min(window, length)
        begins = starts(length, window, step)
        places = (torch.arange(window, dtype=torch.float64) + 0.5) / window
        weights = (BLENDS[blend] if len(begins) > 1 else _uniform)(places)
        totals = torch.zeros(length, dtype=torch.float64)
        for start in begins:
            totals[start : start + window] += weights
        return cls(begins, weights.float(), totals.float())


def window_bands(
    segment: Segment, picture: Tensor, window: Size, step: Size, blend: str = "uniform", batch: int = 1
) -> Iterator[Band]:
    """The average of what is said of each window, row by row: p(y, x) = sum_i w_i p_i(y, x) / sum_i w_i.

    One row of windows is held at a time. Rows of the picture that no later window covers are given away.

    Args:
        segment: what is asked of every window.
        picture: image (B, 3, H, W) float32 in [0, 1], or labels (B, H, W) int64.
        window: (height, width) in pixels; a smaller picture is one window, as large as it is.
        step: from one window to the next.
        blend: what the pixels of a window count: a key of `BLENDS`.
        batch: windows that go through the network at once.
    """
    number, (height, width) = len(picture), picture.shape[-2:]
    down, across = (Axis.of(*given, blend) for given in zip((height, width), window, step, strict=True))
    if len(down.starts) == len(across.starts) == 1:
        yield Band(0, dict(segment(picture)))
        return
    window = len(down.weights), len(across.weights)
    weight, held = (down.weights[:, None] * across.weights).to(picture.device), dict[str, Tensor]()
    for top, following in zip(down.starts, [*down.starts[1:], height], strict=True):
        for first in range(0, len(across.starts), batch):
            lefts = across.starts[first : first + batch]
            cut = [picture[..., top : top + window[0], left : left + window[1]] for left in lefts]
            for readout, class_probs in segment(torch.cat(cut)):
                if readout not in held:
                    held[readout] = class_probs.new_zeros(number, class_probs.shape[1], window[0], width)
                for left, part in zip(lefts, class_probs.split(number), strict=True):
                    held[readout][..., left : left + window[1]].addcmul_(part, weight)
        rows, total = following - top, down.totals[top:following, None] * across.totals
        yield Band(top, {key: sums[..., :rows, :].div_(total.to(sums.device)) for key, sums in held.items()})
        for readout in held if following < height else ():
            held[readout] = _shifted(held[readout], rows)


def _shifted(sums: Tensor, rows: int) -> Tensor:
    """Sums (B, K, h, W) float32 without their first rows, and as many empty ones below."""
    moved = torch.zeros_like(sums)
    moved[..., : sums.shape[-2] - rows, :] = sums[..., rows:, :]
    return moved
