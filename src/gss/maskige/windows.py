"""The shifted-window network of the paper's FT-W, layer by layer as released."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gss.maskige.residual import Correction
from gss.window_attention import window_block


class WindowCorrection(Correction):
    """1x1 convolution with batch norm and ReLU, shifted-window blocks, layer norm, 1x1 convolution to the classes.

    The released sizes are channels=128, 4 heads, windows of 7 pixels, FFN of 256, depth 1 for Cityscapes (whose windows
    are then never shifted) and 2 for ADE20K: 136,503 and 286,558 parameters.

    Args:
        num_classes: K.
        channels: width; the FFN has twice as much.
        depth: number of blocks; every second one shifts its windows.
        num_heads: of each block.
        window_size: side of a window, maskige pixels.

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
        self.blocks = nn.Sequential(*(window_block(channels, num_heads, window_size, i) for i in range(depth)))
        self.norm = nn.LayerNorm(channels)
        self.output = nn.Conv2d(channels, num_classes, 1)

    def forward(self, maskige: Tensor) -> Tensor:
        """(B, 3, H, W) float in [0, 1] of any size to (B, K, H, W)."""
        features = self.norm(self.blocks(self.input(maskige).movedim(1, -1)))
        return torch.as_tensor(self.output(features.movedim(-1, 1)))
