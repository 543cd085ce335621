"""Who lies near whom in a label map: the same few shifts serve boundary bands, boundaries and their matching."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from gss.labels import IGNORE

Offset = tuple[int, int]
CROSS: tuple[Offset, ...] = ((-1, 0), (0, -1), (0, 1), (1, 0))


def square(radius: int) -> list[Offset]:
    """Offsets (rows, columns) of all pixels at most `radius` rows and columns away, the pixel itself included."""
    steps = range(-radius, radius + 1)
    return list(itertools.product(steps, steps))


def disc(radius: int) -> list[Offset]:
    """Offsets (rows, columns) of all pixels at a Euclidean distance of at most `radius`, the pixel itself included."""
    return [(row, column) for row, column in square(radius) if row**2 + column**2 <= radius**2]


def touches_another(labels: Tensor, offsets: Sequence[Offset]) -> Tensor:
    """Whether another class lies at one of the offsets: (B, H, W) bool, False on ignored pixels.

    Args:
        labels: (B, H, W) integer in [0, K) or 255; ignored pixels are no class, nor is what lies outside the picture.
        offsets: (rows, columns) from each pixel.
    """
    found = torch.zeros_like(labels, dtype=torch.bool)
    for near in _shifted(labels, offsets, IGNORE):
        found |= (near != labels) & (near != IGNORE)
    return found & (labels != IGNORE)


def occurs_near(wanted: Tensor, labels: Tensor, offsets: Sequence[Offset]) -> Tensor:
    """Whether the wanted label of each pixel occurs in another label map at one of the offsets: (B, H, W) bool.

    Args:
        wanted: (B, H, W) integer, or one number for all pixels.
        labels: (B, H, W) integer; nothing is found outside the picture.
        offsets: (rows, columns) from each pixel.
    """
    found = torch.zeros_like(labels, dtype=torch.bool)
    for near in _shifted(labels, offsets, -1):
        found |= near == wanted
    return found


def _shifted(labels: Tensor, offsets: Sequence[Offset], outside: int) -> Iterator[Tensor]:
    """What labels (B, H, W) hold at each offset in turn, (B, H, W), and `outside` beyond their border."""
    reach = max(abs(step) for offset in offsets for step in offset)
    around = pad(labels, [reach] * 4, value=outside)
    height, width = labels.shape[1:]
    for row, column in offsets:
        yield around[:, reach + row : reach + row + height, reach + column : reach + column + width]
