"""Multi-level aggregation: every level of the pyramid brought to the token grid and mixed; a high-resolution skip."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gss.window_attention import swin_block


class LevelFusion(nn.Module):
    """The levels of a pyramid brought to one grid and one width.

    Per level a 1x1 convolution and a resize to the grid, then concatenation and a 1x1 convolution, both with BatchNorm
    and ReLU. The second convolution goes through each level at the size that it has, and their shares are added on the
    grid: the concatenation, four levels wide on the finest grid, never exists.

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


class MultiLevelAggregation(LevelFusion):
    """The levels fused at the token grid, then Swin blocks.

    The published sizes are level_channels=384, channels=512, 16 heads, window_size=7, depth 2 or 6.

    Args:
        in_channels: channels of each pyramid level.
        level_channels: width that each level is reduced to.
        channels: width of the fused map.
        depth: number of Swin blocks; every second one is shifted.
        num_heads: heads of each block.
        window_size: side of the squares within which a block attends, in tokens.
        checkpointing: recompute each block in the backward pass instead of keeping its activations.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        level_channels: int = 384,
        channels: int = 512,
        depth: int = 2,
        num_heads: int = 16,
        window_size: int = 7,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, level_channels, channels)
        self.checkpointing = checkpointing
        self.blocks = nn.Sequential(*(swin_block(channels, num_heads, window_size, i) for i in range(depth)))
        self.norm = nn.LayerNorm(channels)

    def forward(self, pyramid: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """Fuses a pyramid of (B, C_i, H_i, W_i) float maps into (B, channels, h, w) for the token grid (h, w)."""
        fused = super().forward(pyramid, grid).movedim(1, -1).contiguous()  # else blocks work in a picture's strides
        for block in self.blocks:
            if self.checkpointing and self.training:  # picture by picture: one's activations of one block at a time
                parts = [checkpoint(block, picture, use_reentrant=False) for picture in fused.split(1)]
                fused = torch.cat(parts)
            else:
                fused = block(fused)
        return torch.as_tensor(self.norm(fused)).movedim(-1, 1)


class HighResolutionSkip(nn.Module):
    """A skip connection that folds the finest backbone level into the token grid, for the heads.

    A token cell covers `side`^2 positions of that level. Aggregation averages them, so a head behind it alone must
    guess where in a cell an outline runs. Here they stay apart: a 3x3 convolution of the level plus a 1x1 convolution
    of the enlarged fused map goes through BatchNorm and ReLU, a 3x3 convolution to `width`, and both again; then the
    positions of each cell become channels of it (space to depth).

    Args:
        in_channels: channels of the finest level.
        channels: width of the fused map.
        width: channels per position; twice as many are mixed.
        stride: pixels per token.
        level_stride: pixels per feature of the finest level.

    Attributes:
        side: positions per side of a cell.
        channels: of the map that is given, width * side^2.

    Raises:
        ValueError: if the width is not positive.
    """

    def __init__(self, in_channels: int, channels: int, width: int, stride: int, level_stride: int) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"fusion.detail={width} must be a number of channels above 0, or 0 for no detail path")
        self.side = max(1, stride // level_stride)
        self.channels = width * self.side**2
        self.fine = nn.Conv2d(in_channels, 2 * width, 3, padding=1, bias=False)
        self.coarse = nn.Conv2d(channels, 2 * width, 1, bias=False)
        self.mix = nn.Sequential(
            nn.BatchNorm2d(2 * width),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )

    def forward(self, features: Tensor, pyramid: Sequence[Tensor]) -> Tensor:
        """What the finest level shows within each cell.

        Args:
            features: (B, channels, h, w) float, the fused map.
            pyramid: the backbone's levels (B, C_i, H_i, W_i) float, finest first, of which the first counts.

        Returns:
            (B, width * side^2, h, w) float.
        """
        size = (features.shape[-2] * self.side, features.shape[-1] * self.side)
        fine, coarse = resize(self.fine(pyramid[0]), size), mix_and_resize(features, self.coarse.weight, size)
        return torch.as_tensor(nn.functional.pixel_unshuffle(self.mix(fine + coarse), self.side))


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
