"""Heads on the fused map: scores over tokens (free or tied to the decoder) and scores over classes per pixel."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FreeTokenHead(nn.Module):
    """The paper's head: 1x1 convolution to `hidden`, 1x1 convolution to the vocabulary.

    Args:
        channels: width of the fused map.
        vocab_size: V.
        hidden: 2048 in the published models.
    """

    def __init__(self, channels: int, vocab_size: int, hidden: int = 2048) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU())
        self.scores = nn.Conv2d(hidden, vocab_size, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, h, w) float to prior_logits (B, V, h, w)."""
        return torch.as_tensor(self.scores(self.hidden(features)))


class TiedTokenHead(nn.Module):
    """Scores tied to what each token decodes to: score_t = <u, class_probs_t> + b_t.

    u holds one score per class and pixel of the cell, class_probs_t is the frozen class distribution that token t
    decodes to, and b starts at the log-frequency of t. Tokens that look alike share their evidence, so rare ones need
    few examples, and the head has channels x K x stride^2 weights however large the vocabulary.

    u = 2 / stride^2 W features: a score sums over the stride^2 pixels of its cell, so without that factor one step of
    an optimiser like Adam would move it stride^2 times as far as it moves a pixel head's, and the head learns worse.

    Both maps are linear, so they are multiplied once per step: a 1x1 convolution to V with the weight codes @ W,
    several times cheaper than going through u.

    Args:
        channels: width of the fused map.
        code_class_probs: (V, K, stride, stride) float32, each token's decoded class probabilities.
        log_frequency: (V,) float32, log of each token's share of the training cells.
    """

    codes: Tensor

    def __init__(self, channels: int, code_class_probs: Tensor, log_frequency: Tensor) -> None:
        super().__init__()
        per_pixel = 2 / code_class_probs[0, 0].numel()
        self.register_buffer("codes", per_pixel * code_class_probs.flatten(1), persistent=False)
        self.evidence = nn.Parameter(torch.empty(self.codes.shape[1], channels))
        nn.init.normal_(self.evidence, std=0.01)
        self.bias = nn.Parameter(log_frequency.clone())

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, h, w) float to prior_logits (B, V, h, w)."""
        weight = self.codes @ self.evidence
        return nn.functional.conv2d(features, weight[:, :, None, None], self.bias)


class BilinearPixelHead(nn.Module):
    """Class scores at the token grid, resized bilinearly to the photograph: the paper's auxiliary head.

    Args:
        channels: width of the fused map.
        num_classes: K.
        stride: pixels per token.
    """

    def __init__(self, channels: int, num_classes: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.scores = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, h, w) float to pixel logits (B, K, h * stride, w * stride)."""
        scores = self.scores(features)
        return nn.functional.interpolate(scores, scale_factor=self.stride, mode="bilinear", align_corners=False)


class SubpixelHead(nn.Module):
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

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, h, w) float to pixel logits (B, K, h * stride, w * stride)."""
        return torch.as_tensor(self.shuffle(self.scores(features)))


PIXEL_HEADS: dict[str, type[BilinearPixelHead] | type[SubpixelHead]] = {
    "bilinear": BilinearPixelHead,
    "subpixel": SubpixelHead,
}
