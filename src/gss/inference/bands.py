"""Class probabilities of a picture from top to bottom: a large one with many classes need not exist at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gss.inference.sizes import Size

BAND = 2**24  # values of class_probs in a band at most, if that is a row: 64 MiB

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
        for rows in torch.arange(done, ready).split(_rows_of_a_band(held, size[1])) if ready > done else ():
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


def _source_rows(there: int, wanted: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which two rows (H,) int64 a new row lies between, and the share (H,) float32 in [0, 1] of the lower one."""
    middle = ((torch.arange(wanted, dtype=torch.float64) + 0.5) * (there / wanted) - 0.5).clamp(min=0)
    above = middle.long().clamp(max=there - 1)
    return above, (above + 1).clamp(max=there - 1), (middle - above).float()


def _rows_of_a_band(held: dict[str, Tensor], width: int) -> int:
    """How many rows of `width` pixels hold BAND values."""
    batch, num_classes = next(iter(held.values())).shape[:2]
    return max(1, BAND // (batch * num_classes * width))


def _mixed(class_probs: Tensor, above: Tensor, below: Tensor, share: Tensor, width: int) -> Tensor:
    """Rows (B, K, n, width) float32 that lie between rows of class_probs (B, K, h, w) float32."""
    device = class_probs.device
    upper, lower = (class_probs.index_select(-2, rows.to(device)) for rows in (above, below))
    rows = upper.lerp_(lower, share.to(device)[:, None])
    return nn.functional.interpolate(rows, size=(len(above), width), mode="bilinear", align_corners=False)
