"""Multi-level aggregation: every level of the pyramid brought to the token grid and mixed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gss.window_attention import window_block


class MultiLevelAggregation(nn.Module):
    """Per-level 1x1 convolution, resize to the token grid, concatenation, 1x1 convolution, shifted-window blocks.

    The published sizes are level_channels=384, channels=512, 16 heads, window 7, depth 2 or 6.

    Args:
        in_channels: channels of each pyramid level.
        level_channels: width that each level is reduced to.
        channels: width of the fused map.
        depth: number of window-attention blocks; every second one shifts its windows.
        num_heads: heads of each block.
        window_size: side of a window, in tokens.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        level_channels: int = 384,
        channels: int = 512,
        depth: int = 2,
        num_heads: int = 16,
        window_size: int = 7,
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_conv_bn_relu(width, level_channels) for width in in_channels)
        self.fuse = _conv_bn_relu(level_channels * len(in_channels), channels)
        self.blocks = nn.Sequential(*(window_block(channels, num_heads, window_size, i) for i in range(depth)))
        self.norm = nn.LayerNorm(channels)

    def forward(self, pyramid: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """Fuses a pyramid of (B, C_i, H_i, W_i) float maps into (B, channels, h, w) for the token grid (h, w)."""
        levels = [resize(conv(level), grid) for conv, level in zip(self.levels, pyramid, strict=True)]
        fused = self.fuse(torch.cat(levels, dim=1)).movedim(1, -1)
        return torch.as_tensor(self.norm(self.blocks(fused))).movedim(-1, 1)


def resize(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """Brings (B, C, H, W) to (B, C, h, w): bilinear upwards, area average downwards so that no feature is skipped."""
    if features.shape[-2] > grid[0]:
        return nn.functional.adaptive_avg_pool2d(features, grid)
    return nn.functional.interpolate(features, size=grid, mode="bilinear", align_corners=False)


def _conv_bn_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
    )
