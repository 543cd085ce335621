"""At which size an image is shown to the network, and how it gets there."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

Size = tuple[int, int]  # height, width


def trained_size(height: int, width: int, trained: Size, stride: int, factor: float = 1.0) -> Size:
    """The area that the network was trained at, in the image's own proportions.

    Args:
        height: of the image, pixels.
        width: of the image, pixels.
        trained: (height, width) that the network was trained at.
        stride: pixels per token; both sides become multiples of it, at least one token.
        factor: by which both sides are longer.

    Returns:
        (height, width) in pixels; exactly `trained` for an image of that size.
    """
    if factor == 1 and (height, width) == tuple(trained):
        return height, width
    scale = factor * math.sqrt(trained[0] * trained[1] / (height * width))
    sides = (max(1, round(side * scale / stride)) * stride for side in (height, width))
    return next(sides), next(sides)


def short_side_size(height: int, width: int, short: float, longest: float) -> Size:
    """The short side at `short` pixels, unless the long side would be longer than `longest`; proportions kept."""
    scale = min(short / min(height, width), longest / max(height, width))
    return scaled_size(height, width, scale)


def scaled_size(height: int, width: int, factor: float) -> Size:
    """Both sides times a factor, at least one pixel, halves rounded up."""
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


def resized(picture: Tensor, size: Size) -> Tensor:
    """An image or a label map at another size.

    Args:
        picture: image (B, 3, H, W) float32 in [0, 1], which is resized smoothly; or labels (B, H, W) int64, by nearest
            neighbour.
        size: (height, width) in pixels.
    """
    height, width = picture.shape[-2:]
    if (height, width) == size:
        return picture
    if picture.is_floating_point():
        smooth = nn.functional.interpolate(picture, size=size, mode="bilinear", antialias=True, align_corners=False)
        return smooth.clamp(0, 1)
    rows, columns = (
        ((torch.arange(wanted, device=picture.device) + 0.5) * (there / wanted)).long().clamp(max=there - 1)
        for there, wanted in zip((height, width), size, strict=True)
    )
    return picture[..., rows[:, None], columns]
