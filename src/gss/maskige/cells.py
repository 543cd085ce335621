"""Pictures on a grid of token cells: rendered larger than the photograph, padded to whole cells, and brought back."""

from __future__ import annotations

from torch import Tensor, nn

from gss.labels import IGNORE


def enlarge_labels(labels: Tensor, scale: int) -> Tensor:
    """Every pixel becomes scale x scale pixels: (B, H, W) int64 to (B, scale * H, scale * W)."""
    return labels.repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2)


def pad_labels(labels: Tensor, stride: int) -> Tensor:
    """Adds ignored pixels below and on the right until both sides are multiples of the stride.

    Args:
        labels: (B, H, W) int64 in [0, K) or 255.
        stride: pixels per cell.

    Returns:
        labels (B, H', W') int64 with H' the least multiple of `stride` that is not below H, W' likewise.
    """
    height, width = labels.shape[-2:]
    return nn.functional.pad(labels, (0, -width % stride, 0, -height % stride), value=IGNORE)


def reduce_class_probs(class_probs: Tensor, scale: int) -> Tensor:
    """The mean over the scale x scale pixels of each photograph pixel.

    (B, K, scale * H, scale * W) float32 to (B, K, H, W), still summing to 1 over K.
    """
    return class_probs if scale == 1 else nn.functional.avg_pool2d(class_probs, scale)
