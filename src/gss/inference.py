"""From one photograph of any size to class probabilities at that size."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def network_size(height: int, width: int, trained: tuple[int, int], stride: int) -> tuple[int, int]:
    """The size at which a photograph is shown to the network: the trained area, the photograph's own proportions.

    Args:
        height: of the photograph, pixels.
        width: of the photograph, pixels.
        trained: (height, width) that the network was trained at.
        stride: pixels per token; both sides become multiples of it, at least one token.

    Returns:
        (height, width) in pixels; exactly `trained` for a photograph of those proportions.
    """
    scale = math.sqrt(trained[0] * trained[1] / (height * width))
    sides = (max(1, round(side * scale / stride)) * stride for side in (height, width))
    return next(sides), next(sides)


@torch.inference_mode()
def segment_photograph(
    image: Tensor, class_probs_of: Callable[[Tensor], Tensor], trained: tuple[int, int], stride: int
) -> Tensor:
    """Segments a whole photograph: shown at the trained scale, probabilities brought back to its own size.

    Args:
        image: (3, H, W) float32 in [0, 1].
        class_probs_of: maps (1, 3, H', W') float32 in [0, 1] of `network_size` to class_probs (1, K, H', W') float32.
        trained: (height, width) that the network was trained at.
        stride: pixels per token.

    Returns:
        class_probs (K, H, W) float32, sums to 1 over K.
    """
    height, width = image.shape[-2:]
    size = network_size(height, width, trained, stride)
    shown = nn.functional.interpolate(image[None], size=size, mode="bilinear", antialias=True, align_corners=False)
    class_probs = class_probs_of(shown.clamp(0, 1))
    return nn.functional.interpolate(class_probs, size=(height, width), mode="bilinear", align_corners=False)[0]
