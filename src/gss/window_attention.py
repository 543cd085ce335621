"""Shifted-window attention (Liu et al., 2021) for grids of any size: tokens under an image, pixels of a maskige."""

from __future__ import annotations

from timm.models.swin_transformer import SwinTransformerBlock
from torch import nn


def swin_block(channels: int, num_heads: int, window_size: int, index: int) -> nn.Module:
    """timm's Swin block for any grid size: (B, h, w, channels) to the same, shifted where `index` is odd."""
    return SwinTransformerBlock(
        channels,
        input_resolution=(window_size, window_size),
        num_heads=num_heads,
        window_size=window_size,
        shift_size=window_size // 2 if index % 2 else 0,
        always_partition=True,
        dynamic_mask=True,
        mlp_ratio=2.0,
    )
