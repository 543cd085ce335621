"""Heads on the fused map: scores over tokens (free or tied to the decoder) and scores over classes per pixel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gss.networks.token_scores import TokenScores


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

    def forward(self, features: Tensor, class_scores: Tensor | None = None) -> TokenScores:
        """Scores over tokens of (B, channels, h, w) float; the pixel head's scores play no part."""
        weight, bias = self.scores.weight.flatten(1), self.scores.bias
        assert bias is not None
        return TokenScores(self.hidden(features).movedim(1, -1), weight, bias)


class TiedTokenHead(nn.Module):
    """Scores tied to what each token decodes to: score_t = <u, class_probs_t> + b_t.

    u holds one score per class and pixel of the cell, class_probs_t is the frozen class distribution that token t
    decodes to, and b starts at the log-frequency of t. Tokens that look alike share their evidence, so rare ones need
    few examples, and the head has channels x K x stride^2 weights however large the vocabulary.

    u = 8 / stride^2 W features: a score sums over the stride^2 pixels of its cell, so without that factor one step of
    an optimiser like Adam would move it stride^2 times as far as it moves a pixel head's, and the head learns worse.

    With `pixel_evidence`, u also holds the auxiliary pixel head's scores, enlarged bilinearly: the token head begins
    from what the pixel head believes and learns what it adds (measured: docs/results/camvid.md).

    Both maps are linear, so they are multiplied once per step: one product with the weight codes @ W, several times
    cheaper than going through u.

    Args:
        channels: width of the fused map.
        code_class_probs: (V, K, stride, stride) float32, each token's decoded class probabilities.
        log_frequency: (V,) float32, log of each token's share of the training cells.
        pixel_evidence: whether the bilinear pixel head's scores count as evidence.
    """

    codes: Tensor
    coarse_codes: Tensor

    def __init__(
        self, channels: int, code_class_probs: Tensor, log_frequency: Tensor, pixel_evidence: bool = False
    ) -> None:
        super().__init__()
        per_pixel = 8 / code_class_probs[0, 0].numel()
        self.register_buffer("codes", per_pixel * code_class_probs.flatten(1), persistent=False)
        self.evidence = nn.Parameter(torch.empty(self.codes.shape[1], channels))
        nn.init.normal_(self.evidence, std=0.01)
        self.bias = nn.Parameter(log_frequency.clone())
        self.pixel_gain: nn.Parameter | None = None
        if pixel_evidence:
            self.register_buffer("coarse_codes", bilinear_adjoint(code_class_probs).flatten(1), persistent=False)
            self.pixel_gain = nn.Parameter(torch.tensor(0.4 * per_pixel))

    def forward(self, features: Tensor, class_scores: Tensor | None = None) -> TokenScores:
        """Scores over tokens.

        Args:
            features: (B, channels, h, w) float.
            class_scores: (B, K, h, w) float, the bilinear pixel head's scores at the token grid, for `pixel_evidence`.
        """
        weight, rows = self.codes @ self.evidence, features.movedim(1, -1)
        if self.pixel_gain is not None:
            assert class_scores is not None
            around = nn.functional.pad(self.pixel_gain * class_scores, (1, 1, 1, 1), mode="replicate")
            neighbours = nn.functional.unfold(around, 3).unflatten(2, rows.shape[1:3]).movedim(1, -1)
            rows, weight = torch.cat([rows, neighbours], dim=-1), torch.cat([weight, self.coarse_codes], dim=1)
        return TokenScores(rows, weight, self.bias)


def bilinear_adjoint(code_class_probs: Tensor) -> Tensor:
    """Kernels (V, K, 3, 3) with conv(scores, kernel_t) = <bilinear(scores), class_probs_t> in every cell.

    A pixel enlarged bilinearly depends on the 3x3 cells around it only, so the sum over the cell's pixels is a 3x3
    convolution at the token grid: K x 9 products per token instead of K x stride^2.

    Args:
        code_class_probs: (V, K, stride, stride) float32.
    """
    stride = code_class_probs.shape[-1]
    neighbours = torch.eye(9, device=code_class_probs.device).view(9, 1, 3, 3)
    enlarged = nn.functional.interpolate(neighbours, scale_factor=stride, mode="bilinear", align_corners=False)
    share = enlarged[:, 0, stride : 2 * stride, stride : 2 * stride]  # of each neighbour in the middle cell's pixels
    return torch.einsum("vkyx,nyx->vkn", code_class_probs, share).reshape(*code_class_probs.shape[:2], 3, 3)


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

    def enlarge(self, scores: Tensor) -> Tensor:
        """Class scores at the token grid (B, K, h, w) to pixel logits (B, K, h * stride, w * stride)."""
        return nn.functional.interpolate(scores, scale_factor=self.stride, mode="bilinear", align_corners=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, h, w) float to pixel logits (B, K, h * stride, w * stride)."""
        return self.enlarge(self.scores(features))


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

    def enlarge(self, scores: Tensor) -> Tensor:
        """Scores at the token grid (B, K * stride^2, h, w) to pixel logits (B, K, h * stride, w * stride)."""
        return torch.as_tensor(self.shuffle(scores))

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, h, w) float to pixel logits (B, K, h * stride, w * stride)."""
        return self.enlarge(self.scores(features))


PIXEL_HEADS: dict[str, type[BilinearPixelHead] | type[SubpixelHead]] = {
    "bilinear": BilinearPixelHead,
    "subpixel": SubpixelHead,
}
