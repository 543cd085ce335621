"""Multi-level aggregation: every level of the pyramid brought to the token grid and mixed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gss.networks.levels import LevelFusion
from gss.window_attention import window_block


class MultiLevelAggregation(LevelFusion):
    """The levels fused at the token grid, then shifted-window blocks.

    The published sizes are level_channels=384, channels=512, 16 heads, window 7, depth 2 or 6.

    Args:
        in_channels: channels of each pyramid level.
        level_channels: width that each level is reduced to.
        channels: width of the fused map.
        depth: number of window-attention blocks; every second one shifts its windows.
        num_heads: heads of each block.
        window_size: side of a window, in tokens.
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
        self.blocks = nn.Sequential(*(window_block(channels, num_heads, window_size, i) for i in range(depth)))
        self.norm = nn.LayerNorm(channels)

    def forward(self, pyramid: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """Fuses a pyramid of (B, C_i, H_i, W_i) float maps into (B, channels, h, w) for the token grid (h, w)."""
        fused = super().forward(pyramid, grid).movedim(1, -1).contiguous()  # else blocks work in a picture's strides
        for block in self.blocks:
            fused = self._recomputed(block, fused) if self.checkpointing and self.training else block(fused)
        return torch.as_tensor(self.norm(fused)).movedim(-1, 1)

    def _recomputed(self, block: nn.Module, fused: Tensor) -> Tensor:
        """Picture by picture, so that the activations of one picture in one block exist at a time."""
        return torch.cat([checkpoint(block, picture, use_reentrant=False) for picture in fused.split(1)])
