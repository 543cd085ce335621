"""The levels of a pyramid brought to one grid and to one width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LevelFusion(nn.Module):
    """Per-level 1x1 convolution, resize to a grid, concatenation, 1x1 convolution; each with BatchNorm and ReLU.

    Args:
        in_channels: channels of each pyramid level.
        level_channels: width that each level is reduced to.
        channels: width of the fused map.
    """

    def __init__(self, in_channels: Sequence[int], level_channels: int, channels: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_conv_bn_relu(width, level_channels) for width in in_channels)
        self.fuse = _conv_bn_relu(level_channels * len(in_channels), channels)

    def forward(self, pyramid: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """Levels (B, C_i, H_i, W_i) float to (B, channels, h, w) on the grid (h, w)."""
        levels = [resize(conv(level), grid) for conv, level in zip(self.levels, pyramid, strict=True)]
        return torch.as_tensor(self.fuse(torch.cat(levels, dim=1)))


def resize(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """Brings (B, C, H, W) to (B, C, h, w): bilinear upwards, area average downwards so that no feature is skipped."""
    if features.shape[-2] > grid[0]:
        return nn.functional.adaptive_avg_pool2d(features, grid)
    return nn.functional.interpolate(features, size=grid, mode="bilinear", align_corners=False)


def _conv_bn_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
    )
