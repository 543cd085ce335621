"""X^-1 with probabilities: from the colours of a decoded maskige to a distribution over classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SoftDistance(nn.Module):
    """p(k | x) proportional to exp(-|x - colour_k|^2 / temperature): its argmax is the nearest colour.

    The squared distance is affine in the colours up to a term that all classes share,
    2 x . colour_k - |colour_k|^2, so it costs one 1x1 convolution (gss-method note: nearest colour as affine scores).

    Args:
        temperature: in squared 8-bit colour units; 900 is the value of Semantic Prism (arXiv 2608.11537).

    Raises:
        ValueError: if `temperature` is not positive.
    """

    def __init__(self, temperature: float = 900.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"maskige.temperature must be positive, got {temperature}")
        self.temperature = temperature / 255**2

    def forward(self, maskige: Tensor, colours: Tensor) -> Tensor:
        """Class probabilities of each pixel's colour.

        Args:
            maskige: (B, 3, H, W) float in [0, 1].
            colours: (K, 3) float32 in [0, 1], the palette.

        Returns:
            class_probs (B, K, H, W) float32, sums to 1 over K.
        """
        with torch.autocast(maskige.device.type, enabled=False):  # bf16 distances would tie (8 bits of mantissa)
            scores = 2 * nn.functional.conv2d(maskige.float(), colours[:, :, None, None], -colours.square().sum(1) / 2)
            return (scores / self.temperature).softmax(dim=1)
