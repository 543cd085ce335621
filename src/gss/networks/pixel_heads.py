"""Heads that score classes: the paper's auxiliary head and its variants, each the only head of a pixel twin as well."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gss.networks.fusion import LevelFusion


class PixelHead(nn.Module, ABC):
    """From features to class scores on the token grid, and from those to pixels.

    Every head is offered the fused map and the backbone's own levels, and takes what it needs.
    """

    @abstractmethod
    def forward(self, features: Tensor, pyramid: Sequence[Tensor]) -> Tensor:
        """Class scores on the token grid.

        Args:
            features: (B, channels, h, w) float, the fused map.
            pyramid: the backbone's levels (B, C_i, H_i, W_i) float.

        Returns:
            (B, C, h, w) float, in the channels that `enlarge` takes.
        """

    @abstractmethod
    def enlarge(self, scores: Tensor) -> Tensor:
        """What `forward` gave, (B, C, h, w) float, as pixel logits (B, K, h * stride, w * stride)."""


class BilinearPixelHead(PixelHead):
    """Class scores of the fused map, resized bilinearly to the image.

    The released MSeg models have it so; those of Cityscapes and ADE20K have the `PyramidPixelHead`.

    Args:
        channels: width of the fused map.
        num_classes: K.
        stride: pixels per token.
    """

    def __init__(self, channels: int, num_classes: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.scores = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: Tensor, pyramid: Sequence[Tensor]) -> Tensor:
        """(B, channels, h, w) float to class scores (B, K, h, w); the pyramid plays no part."""
        return torch.as_tensor(self.scores(features))

    def enlarge(self, scores: Tensor) -> Tensor:
        """Class scores (B, K, h, w) to pixel logits (B, K, h * stride, w * stride)."""
        return nn.functional.interpolate(scores, scale_factor=self.stride, mode="bilinear", align_corners=False)


class PyramidPixelHead(BilinearPixelHead):
    """The released auxiliary head: a fusion of its own over the backbone's levels, then class scores.

    Each level through a 1x1 convolution, normalisation and ReLU, resized to the token grid, concatenated, the same
    once more, and a 1x1 convolution to K. It shares nothing with the token head but the backbone.

    Args:
        in_channels: channels of each level.
        level_channels: width of each level and of their fusion, 384 in the release.
        num_classes: K.
        stride: pixels per token.
    """

    def __init__(self, in_channels: Sequence[int], level_channels: int, num_classes: int, stride: int) -> None:
        super().__init__(level_channels, num_classes, stride)
        self.fusion = LevelFusion(in_channels, level_channels, level_channels)

    def forward(self, features: Tensor, pyramid: Sequence[Tensor]) -> Tensor:
        """Levels (B, C_i, H_i, W_i) float to class scores (B, K, h, w); of the fused map the grid alone counts."""
        grid = (features.shape[-2], features.shape[-1])
        return super().forward(self.fusion(pyramid, grid), pyramid)


class SubpixelHead(PixelHead):
    """K x stride^2 channels at the token grid, shuffled into pixels (Shi et al., CVPR 2016).

    It has the output resolution and the parameters of the tied token head, without the dictionary.

    Args:
        channels: width of the fused map.
        num_classes: K.
        stride: pixels per token.
    """

    def __init__(self, channels: int, num_classes: int, stride: int) -> None:
        super().__init__()
        self.scores = nn.Conv2d(channels, num_classes * stride**2, 1)
        self.shuffle = nn.PixelShuffle(stride)

    def forward(self, features: Tensor, pyramid: Sequence[Tensor]) -> Tensor:
        """(B, channels, h, w) float to scores (B, K * stride^2, h, w); the pyramid plays no part."""
        return torch.as_tensor(self.scores(features))

    def enlarge(self, scores: Tensor) -> Tensor:
        """Scores (B, K * stride^2, h, w) to pixel logits (B, K, h * stride, w * stride)."""
        return torch.as_tensor(self.shuffle(scores))
