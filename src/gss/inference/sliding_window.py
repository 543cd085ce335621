"""Sliding windows: where they lie, what each counts in an overlap, and their average from top to bottom.

Class probabilities come in bands of rows, since those of a large picture with many classes need not exist at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

SIGMA = 1 / 8  # of blend=gaussian, in windows: the customary value
BAND = 2**24  # values of class_probs in a band at most, if that is a row: 64 MiB

Size = tuple[int, int]  # height, width
Segment = Callable[[Tensor], Iterable[tuple[str, Tensor]]]
"""Maps views (N, 3, h, w) float32 in [0, 1] to class_probs (N, K, h, w) float32 by readout, in one network pass.

A generator lets one readout be used up before the next is made.
"""


class Band(NamedTuple):
    """Some rows of a picture, to be used up before the next ones are asked for, which may take their memory.

    Args:
        top: the first row.
        class_probs: of each readout (B, K, rows, W) float32, sums to 1 over K.
    """

    top: int
    class_probs: dict[str, Tensor]


def enlarged(bands: Iterable[Band], shown: Size, size: Size) -> Iterator[Band]:
    """Bands of a picture at another size: class_probs resized bilinearly, as `torch.nn.functional.interpolate` does.

    Args:
        bands: of a picture of `shown` size, from top to bottom, without gaps.
        shown: (h, w).
        size: (H, W) that is wanted.
    """
    if shown == size:
        yield from bands
        return
    above, below, share = _source_rows(shown[0], size[0])
    held: dict[str, Tensor] = {}
    first = done = 0  # the first row that is held, the first that is still to be made
    for band in bands:
        held = {
            readout: torch.cat([held[readout], class_probs], dim=-2) if readout in held else class_probs
            for readout, class_probs in band.class_probs.items()
        }
        known = first + next(iter(held.values())).shape[-2]
        ready = int((below < known).sum())
        batch, num_classes = next(iter(held.values())).shape[:2]
        num_rows = max(1, BAND // (batch * num_classes * size[1]))
        for rows in torch.arange(done, ready).split(num_rows) if ready > done else ():
            mixed = {
                readout: _mixed(class_probs, above[rows] - first, below[rows] - first, share[rows], size[1])
                for readout, class_probs in held.items()
            }
            yield Band(int(rows[0]), mixed)
        done = ready
        needed = min(int(above[ready]), known) if ready < size[0] else known
        held = {readout: class_probs[..., needed - first :, :].clone() for readout, class_probs in held.items()}
        first = needed


def assembled(bands: Iterable[Band], height: int) -> dict[str, Tensor]:
    """Whole pictures: class_probs (B, K, H, W) float32 of each readout."""
    whole: dict[str, Tensor] = {}
    for top, class_probs in bands:
        for readout, part in class_probs.items():
            if part.shape[-2] == height:
                whole[readout] = part
                continue
            if readout not in whole:
                whole[readout] = part.new_empty(*part.shape[:2], height, part.shape[-1])
            whole[readout][..., top : top + part.shape[-2], :] = part
    return whole


def likeliest(bands: Iterable[Band]) -> dict[str, Tensor]:
    """Labels (B, H, W) int64 in [0, K) of each readout: the likeliest class of each pixel."""
    parts: dict[str, list[Tensor]] = {}
    for band in bands:
        for readout, class_probs in band.class_probs.items():
            parts.setdefault(readout, []).append(class_probs.max(dim=1).indices)
    return {readout: torch.cat(labels, dim=1) for readout, labels in parts.items()}


def starts(length: int, window: int, step: int) -> list[int]:
    """Where windows begin along one axis: every `step` pixels, the last moved back to the border."""
    number = math.ceil(max(length - window, 0) / step) + 1
    return [min(place * step, max(length - window, 0)) for place in range(number)]


BLENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "uniform": torch.ones_like,
    "hann": lambda places: torch.sin(torch.pi * places) ** 2,
    "gaussian": lambda places: torch.exp(-0.5 * ((places - 0.5) / SIGMA) ** 2),
}
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
        weights = BLENDS[blend if len(begins) > 1 else "uniform"](places)
        totals = torch.zeros(length, dtype=torch.float64)
        for start in begins:
            totals[start : start + window] += weights
        return cls(begins, weights.float(), totals.float())


def window_bands(
    segment: Segment, picture: Tensor, window: Size, step: Size, blend: str = "uniform", batch: int = 1
) -> Iterator[Band]:
    """The average of what is said of each window, row by row: p(y, x) = sum_i w_i p_i(y, x) / sum_i w_i.

    One row of windows is held at a time. Rows of the picture that no later window covers are given away; their memory
    is used again for the next band.

    Args:
        segment: what is asked of every window.
        picture: image (B, 3, H, W) float32 in [0, 1], or labels (B, H, W) int64.
        window: (height, width) in pixels; a smaller picture is one window, as large as it is.
        step: from one window to the next.
        blend: what the pixels of a window count: a key of `BLENDS`.
        batch: windows that go through the network at once.
    """
    height, width = picture.shape[-2:]
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
            _add(held, segment(torch.cat(cut)), weight, lefts, width)
        rows, total = following - top, down.totals[top:following, None] * across.totals
        yield Band(top, {key: sums[..., :rows, :].div_(total.to(sums.device)) for key, sums in held.items()})
        for sums in held.values() if following < height else ():
            _move_up(sums, rows)


def _add(
    held: dict[str, Tensor], said: Iterable[tuple[str, Tensor]], weight: Tensor, lefts: list[int], width: int
) -> None:
    """Adds what is said of some windows side by side to the weighted sums of their row, (B, K, window, width) float32.

    Args:
        held: the sums by readout; those that are not there yet begin at nought.
        said: class_probs (len(lefts) * B, K, window, window) float32 by readout, of one window after the other.
        weight: what each pixel of a window counts, (window, window) float32.
        lefts: where the windows begin.
        width: of the picture, pixels.
    """
    for readout, class_probs in said:
        if readout not in held:
            number = len(class_probs) // len(lefts)
            held[readout] = class_probs.new_zeros(number, *class_probs.shape[1:-1], width)
        for left, part in zip(lefts, class_probs.chunk(len(lefts)), strict=True):
            held[readout][..., left : left + weight.shape[-1]].addcmul_(part, weight)


def _move_up(sums: Tensor, rows: int) -> None:
    """Drops the first rows of sums (B, K, h, W) float32 and appends empty ones, without a second copy of them."""
    for strip in range(rows, sums.shape[-2], rows):  # no wider than the move, so that it does not overwrite itself
        moved = sums[..., strip : strip + rows, :]
        sums[..., strip - rows : strip - rows + moved.shape[-2], :] = moved
    sums[..., sums.shape[-2] - rows :, :] = 0


def _source_rows(there: int, wanted: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which two rows (H,) int64 a new row lies between, and the share (H,) float32 in [0, 1] of the lower one."""
    middle = ((torch.arange(wanted, dtype=torch.float64) + 0.5) * (there / wanted) - 0.5).clamp(min=0)
    above = middle.long().clamp(max=there - 1)
    return above, (above + 1).clamp(max=there - 1), (middle - above).float()


def _mixed(class_probs: Tensor, above: Tensor, below: Tensor, share: Tensor, width: int) -> Tensor:
    """Rows (B, K, n, width) float32 that lie between rows of class_probs (B, K, h, w) float32."""
    device = class_probs.device
    upper, lower = (class_probs.index_select(-2, rows.to(device)) for rows in (above, below))
    rows = upper.lerp_(lower, share.to(device)[:, None])
    return nn.functional.interpolate(rows, size=(len(above), width), mode="bilinear", align_corners=False)
