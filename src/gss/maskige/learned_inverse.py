"""X^-1 with weights: soft distance, and what a network that sees the neighbourhood adds to it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gss.maskige.inverse import Inverse, SoftDistance
from gss.window_attention import swin_block


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
        """Soft distance and correction, added in single precision: (B, K, H, W) float32."""
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


class SwinCorrection(Correction):
    """The shifted-window network of the paper's FT-W, layer by layer as released.

    1x1 convolution with batch norm and ReLU, Swin blocks, layer norm, 1x1 convolution to the classes. The released
    sizes are channels=128, 4 heads, attention within 7x7 pixels, FFN of 256, depth 1 for Cityscapes (which then never
    shifts) and 2 for ADE20K: 136,503 and 286,558 parameters.

    Args:
        num_classes: K.
        channels: width; the FFN has twice as much.
        depth: number of Swin blocks; every second one is shifted.
        num_heads: of each block.
        window_size: side of the squares within which a block attends, maskige pixels.

    Raises:
        ValueError: unless the heads divide the channels and there is at least one block.
    """

    def __init__(
        self, num_classes: int, channels: int = 128, depth: int = 1, num_heads: int = 4, window_size: int = 7
    ) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"maskige.inverse.channels={channels} must be a multiple of num_heads={num_heads}")
        if depth < 1:
            raise ValueError(f"maskige.inverse.depth={depth} must be at least 1")
        self.input = nn.Sequential(nn.Conv2d(3, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
        self.blocks = nn.Sequential(*(swin_block(channels, num_heads, window_size, i) for i in range(depth)))
        self.norm = nn.LayerNorm(channels)
        self.output = nn.Conv2d(channels, num_classes, 1)

    def forward(self, maskige: Tensor) -> Tensor:
        """(B, 3, H, W) float in [0, 1] of any size to (B, K, H, W)."""
        features = self.norm(self.blocks(self.input(maskige).movedim(1, -1)))
        return torch.as_tensor(self.output(features.movedim(-1, 1)))
