"""The levels of a pyramid brought to one grid and to one width."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn


class LevelFusion(nn.Module):
    """Per-level 1x1 convolution, resize to a grid, concatenation, 1x1 convolution; each with BatchNorm and ReLU.

    The second convolution goes through each level at the size that it has, and their shares are added on the grid:
    the concatenation, four levels wide on the finest grid, never exists.

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
        convolution, norm, relu = self.fuse
        assert isinstance(convolution, nn.Conv2d)
        weights = convolution.weight.chunk(len(self.levels), dim=1)
        levels = zip(self.levels, pyramid, weights, strict=True)
        mixed = reduce(Tensor.add_, (mix_and_resize(conv(level), weight, grid) for conv, level, weight in levels))
        return torch.as_tensor(relu(norm(mixed)))


def mix_and_resize(features: Tensor, weight: Tensor, grid: tuple[int, int]) -> Tensor:
    """A 1x1 convolution and a resize, in the order that leaves less to do: both are linear, so they commute.

    Args:
        features: (B, C, H, W) float.
        weight: (D, C, 1, 1) float.
        grid: (h, w).

    Returns:
        (B, D, h, w) float.
    """
    if features.shape[-2] > grid[0]:
        return nn.functional.conv2d(resize(features, grid), weight)
    return resize(nn.functional.conv2d(features, weight), grid)


def resize(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """Brings (B, C, H, W) to (B, C, h, w): bilinear upwards, area average downwards so that no feature is skipped.

    A map of that size already is given back as it is.
    """
    if features.shape[-2:] == grid:
        return features
    if features.shape[-2] > grid[0]:
        return nn.functional.adaptive_avg_pool2d(features, grid)
    return nn.functional.interpolate(features, size=grid, mode="bilinear", align_corners=False)


def _conv_bn_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
    )
