"""X^-1 with weights: soft distance, and what a network that sees the neighbourhood adds to it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gss.maskige.inverse import Inverse, SoftDistance


class Correction(nn.Module):
    """A network from a maskige to class scores whose last layer is the 1x1 or 3x3 convolution `output`."""

    output: nn.Conv2d


class ResidualInverse(Inverse):
    """Scores of the soft distance plus a learned correction, which begins at zero.

    So an untrained one reads exactly what the soft distance reads, and training can only be asked what context adds
    to colour (the zero-initialised residual head of Semantic Prism, arXiv 2608.11537).

    Args:
        correction: maps a maskige (B, 3, H, W) float in [0, 1] to (B, K, H, W); `output` is its last convolution.
        temperature: of the soft distance, in squared 8-bit colour units.
    """

    def __init__(self, correction: Correction, temperature: float = 900.0) -> None:
        super().__init__()
        self.distance, self.correction = SoftDistance(temperature), correction
        nn.init.zeros_(correction.output.weight)
        assert correction.output.bias is not None
        nn.init.zeros_(correction.output.bias)

    def class_scores(self, maskige: Tensor, colours: Tensor) -> Tensor:
        """Soft distance and correction, added in single precision.

        Args:
            maskige: (B, 3, H, W) float in [0, 1].
            colours: (K, 3) float32 in [0, 1], the palette.

        Returns:
            Scores (B, K, H, W) float32.
        """
        correction: Tensor = self.correction(maskige)
        return self.distance.class_scores(maskige, colours) + correction.float()


class ConvolutionCorrection(Correction):
    """Three 3x3 convolutions with ReLU between them (the paper's FT: a "3-layer CNN with activations").

    Args:
        num_classes: K.
        hidden: width of the first two.
    """

    def __init__(self, num_classes: int, hidden: int = 32) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, hidden, 3, padding=1)
        self.second = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.output = nn.Conv2d(hidden, num_classes, 3, padding=1)

    def forward(self, maskige: Tensor) -> Tensor:
        """(B, 3, H, W) float in [0, 1] to (B, K, H, W)."""
        features = self.second(self.first(maskige * 2 - 1).relu()).relu()
        return torch.as_tensor(self.output(features))
