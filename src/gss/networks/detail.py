"""What the finest level shows within a cell, kept for the heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gss.networks.levels import resize


class DetailPath(nn.Module):
    """The finest level on the token grid without being averaged over the cell.

    3x3 convolution, BatchNorm and ReLU at the level's own size, then its `side`^2 positions in a cell side by side as
    channels. Aggregation averages them away, so a head behind it alone must guess where in the cell an outline runs.

    Args:
        in_channels: channels of the finest level.
        width: channels per position.
        stride: pixels per token.
        level_stride: pixels per feature of the finest level.

    Attributes:
        channels: of the map that is given, width * side^2.
    """

    def __init__(self, in_channels: int, width: int, stride: int, level_stride: int) -> None:
        super().__init__()
        self.side = max(1, stride // level_stride)
        self.channels = width * self.side**2
        self.reduce = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )

    def forward(self, pyramid: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """Of levels (B, C_i, H_i, W_i) float, finest first, what the first one shows, (B, channels, h, w)."""
        fine, size = self.reduce(pyramid[0]), (grid[0] * self.side, grid[1] * self.side)
        if fine.shape[-2:] != size:
            fine = resize(fine, size)
        return torch.as_tensor(nn.functional.pixel_unshuffle(fine, self.side))
