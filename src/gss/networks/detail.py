"""What the finest level shows within a cell, told apart by what the fused map knows of the cell."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gss.networks.levels import mix_and_resize, resize


class DetailPath(nn.Module):
    """The fused map and the finest level mixed at the size of the latter, and kept for the heads.

    The sum of a 3x3 convolution of the level and a 1x1 convolution of the fused map, enlarged, goes through BatchNorm
    and ReLU, a 3x3 convolution to `width`, and both again. The `side`^2 positions of a cell then lie side by side as
    channels. Aggregation averages them away, so a head behind it alone must guess where in a cell an outline runs.

    Args:
        in_channels: channels of the finest level.
        channels: width of the fused map.
        width: channels per position; twice as many are mixed.
        stride: pixels per token.
        level_stride: pixels per feature of the finest level.

    Attributes:
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
        """Positions within each cell.

        Args:
            features: (B, channels, h, w) float, the fused map.
            pyramid: the backbone's levels (B, C_i, H_i, W_i) float, finest first, of which the first counts.

        Returns:
            (B, width * side^2, h, w) float.
        """
        size = (features.shape[-2] * self.side, features.shape[-1] * self.side)
        fine, coarse = resize(self.fine(pyramid[0]), size), mix_and_resize(features, self.coarse.weight, size)
        return torch.as_tensor(nn.functional.pixel_unshuffle(self.mix(fine + coarse), self.side))
