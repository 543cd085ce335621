"""The heads of the conditioning network.

Token heads score tokens: free, or tied to what the tokenizer knows of each of them. Pixel heads score classes: the
paper's auxiliary head and its variants, each the only head of a pixel twin as well.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gss.networks.fusion import LevelFusion
from gss.networks.token_scores import TokenScores, Vocabulary

ALIGNED = 4  # rows of so many floats begin at whole words of 16 bytes: a sixth less time for their products
STEP = 8.0  # a head's score moves with one step of Adam as it would with so many weights of a plain one


class TokenHead(nn.Module, ABC):
    """From the fused map to scores over tokens.

    Args:
        vocabulary: the tokens with a row of their own; None: all V.
    """

    def __init__(self, vocabulary: Vocabulary | None) -> None:
        super().__init__()
        self.vocabulary = vocabulary

    @abstractmethod
    def forward(self, features: Tensor, class_scores: Tensor) -> TokenScores:
        """Scores over tokens.

        Args:
            features: (B, channels, h, w) float.
            class_scores: (B, C, h, w) float, what the pixel head says on the token grid.
        """

    def rows_of(self, per_token: Tensor) -> Tensor:
        """Of something (V, ...) what the head has rows for, (R, ...)."""
        return per_token if self.vocabulary is None else per_token[self.vocabulary.tokens]


class FreeTokenHead(TokenHead):
    """The paper's head: 1x1 convolution to `hidden`, 1x1 convolution to the vocabulary.

    Neither is carried out here: of the first, with its BatchNorm, one linear map is made.

    Args:
        channels: width of the fused map.
        vocab_size: V.
        hidden: 2048 in the published models.
        vocabulary: the tokens with a row of their own; None: all V.
    """

    def __init__(
        self, channels: int, vocab_size: int, hidden: int = 2048, vocabulary: Vocabulary | None = None
    ) -> None:
        super().__init__(vocabulary)
        self.hidden = nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU())
        self.scores = nn.Conv2d(hidden, vocab_size if vocabulary is None else len(vocabulary), 1)

    def forward(self, features: Tensor, class_scores: Tensor | None = None) -> TokenScores:
        """Scores over tokens of (B, channels, h, w) float; the pixel head's scores play no part."""
        convolution, norm, _ = self.hidden
        weight, bias = self.scores.weight.flatten(1), self.scores.bias
        assert bias is not None
        if not isinstance(norm, nn.BatchNorm2d):  # a SyncBatchNorm takes its statistics over all processes
            return TokenScores(self.hidden(features).movedim(1, -1), weight, bias, self.vocabulary)
        assert isinstance(convolution, nn.Conv2d)
        hidden = folded(features, convolution, norm)
        return TokenScores(features.movedim(1, -1), weight, bias, self.vocabulary, hidden)


class ProductHead(TokenHead):
    """score_t = <W features, code_t> + b_t, with a fixed code for each token; b starts at the log-frequency of t.

    Tokens with similar codes share their evidence, so rare ones need few examples, and W does not grow with V.

    Both maps are linear, so they are multiplied once per step: one product with the weight codes @ W, several times
    cheaper than going through W features.

    Args:
        channels: width of the fused map.
        codes: (V, C) float32.
        std: of W at the start.
        log_frequency: (V,) float32, log of each token's share of the training cells.
        decoded: (V, K, stride, stride) float32, each token's decoded class probabilities, if the bilinear pixel head's
            scores count as evidence; None: they do not.
        vocabulary: the tokens with a row of their own; None: all V.
    """

    codes: Tensor
    coarse_codes: Tensor

    def __init__(
        self,
        channels: int,
        codes: Tensor,
        std: float,
        log_frequency: Tensor,
        decoded: Tensor | None,
        vocabulary: Vocabulary | None,
    ) -> None:
        super().__init__(vocabulary)
        self.register_buffer("codes", self.rows_of(codes), persistent=False)
        self.evidence = nn.Parameter(torch.empty(codes.shape[1], channels))
        nn.init.normal_(self.evidence, std=std)
        self.bias = nn.Parameter(self.rows_of(log_frequency).clone())
        self.pixel_gain: nn.Parameter | None = None
        self._kept: tuple[Tensor, Tensor] | None = None  # W, and the weight made of it
        if decoded is not None:
            coarse = bilinear_adjoint(self.rows_of(decoded)).flatten(2).mT.flatten(1)  # by neighbour, then class
            filling = (0, -(channels + coarse.shape[1]) % ALIGNED)
            self.register_buffer("coarse_codes", nn.functional.pad(coarse, filling), persistent=False)
            self.pixel_gain = nn.Parameter(torch.tensor(0.4 * STEP / decoded[0, 0].numel()))

    def forward(self, features: Tensor, class_scores: Tensor | None = None) -> TokenScores:
        """Scores over tokens.

        Args:
            features: (B, channels, h, w) float.
            class_scores: (B, K, h, w) float, a bilinear pixel head's scores at the token grid, where they count.
        """
        weight, columns = self._weight(), features
        if self.pixel_gain is not None:
            assert class_scores is not None
            height, width = features.shape[2:]
            around = nn.functional.pad(self.pixel_gain * class_scores, (1, 1, 1, 1), mode="replicate")
            neighbours = [around[:, :, y : y + height, x : x + width] for y in range(3) for x in range(3)]
            filling = weight.shape[1] - features.shape[1] - 9 * class_scores.shape[1]
            columns = torch.cat([features, *neighbours, features.new_zeros(len(features), filling, height, width)], 1)
        return TokenScores(columns.movedim(1, -1), weight, self.bias, self.vocabulary)

    def _weight(self) -> Tensor:
        """One row per token, (R, channels) float32 and the coarse codes beside it.

        Without gradients it is kept for as long as W has the same values, so that generation pays for it once.
        """
        if torch.is_grad_enabled():
            return self._product()
        kept = self._kept
        if kept is None or kept[0].device != self.evidence.device or not torch.equal(kept[0], self.evidence):
            self._kept = kept = (self.evidence.detach().clone(), self._product())
        return kept[1]

    def _product(self) -> Tensor:
        with torch.autocast(self.codes.device.type, enabled=False):
            weight = self.codes @ self.evidence
        return weight if self.pixel_gain is None else torch.cat([weight, self.coarse_codes], dim=1)


class TiedTokenHead(ProductHead):
    """A token's code is what it decodes to: score_t = <u, class_probs_t> + b_t.

    u = 8 / stride^2 W features holds one score per class and pixel of the cell, class_probs_t is the frozen class
    distribution that token t decodes to. The head has channels x K x stride^2 weights however large the vocabulary.
    A score sums over the stride^2 pixels of its cell, so without the factor one step of an optimiser like Adam would
    move it stride^2 times as far as it moves a pixel head's, and the head learns worse.

    With `pixel_evidence`, u also holds the auxiliary pixel head's scores, enlarged bilinearly: the token head begins
    from what the pixel head believes and learns what it adds (measured: docs/results/camvid.md).

    Args:
        channels: width of the fused map.
        code_class_probs: (V, K, stride, stride) float32, each token's decoded class probabilities.
        log_frequency: (V,) float32, log of each token's share of the training cells.
        pixel_evidence: whether the bilinear pixel head's scores count as evidence.
        vocabulary: the tokens with a row of their own; None: all V.
    """

    def __init__(
        self,
        channels: int,
        code_class_probs: Tensor,
        log_frequency: Tensor,
        pixel_evidence: bool = False,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        codes = STEP / code_class_probs[0, 0].numel() * code_class_probs.flatten(1)
        decoded = code_class_probs if pixel_evidence else None
        super().__init__(channels, codes, 0.01, log_frequency, decoded, vocabulary)


class CodeTiedTokenHead(ProductHead):
    """A token's code is its entry in the tokenizer's code table, the embedding with which the decoder begins.

    It is meant for decoders that look at neighbours: a convolutional decoder makes of a token what its neighbours say
    as well, so that what it decodes to by itself describes it badly; its code is all that the decoder knows of it.
    The head has channels x C weights.

    Columns of the table are brought to mean 0 and variance 1 over the vocabulary, and the score is
    8 / C <W features, code_t> + b_t: a step of an optimiser like Adam moves it as far as it moves that of the
    `TiedTokenHead`. W starts with the standard deviation at which scores of features of variance 1 have variance 1.

    Args:
        channels: width of the fused map.
        code_table: (V, C) float32, `Tokenizer.code_table`.
        log_frequency: (V,) float32, log of each token's share of the training cells.
        code_class_probs: (V, K, stride, stride) float32, each token's decoded class probabilities, if the bilinear
            pixel head's scores count as evidence; None: they do not.
        vocabulary: the tokens with a row of their own; None: all V.
    """

    def __init__(
        self,
        channels: int,
        code_table: Tensor,
        log_frequency: Tensor,
        code_class_probs: Tensor | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        width = code_table.shape[1]
        codes, std = STEP / width * standardised(code_table), math.sqrt(width / channels) / STEP
        super().__init__(channels, codes, std, log_frequency, code_class_probs, vocabulary)


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


def standardised(table: Tensor) -> Tensor:
    """Columns of mean 0 and variance 1: (V, C) float32 to the same.

    A column that hardly varies is not blown up: its deviation counts as at least a thousandth of the largest one.
    """
    centred = table.detach() - table.detach().mean(dim=0)
    deviation = centred.square().mean(dim=0).sqrt()
    return centred / deviation.clamp(min=(deviation.max() / 1000).clamp(min=1e-12))


def folded(features: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Folds a 1x1 convolution and its BatchNorm into one linear map, before either is carried out.

    While training, BatchNorm needs mean and variance of the convolution's outputs over all cells. Of a linear map they
    follow from those of its inputs, W m and diag(W S W^T) with their covariance S, so a wide output never exists, and
    a loss can go through its cells some at a time. Gradients pass through both as through BatchNorm itself.

    Args:
        features: (B, C, h, w) float.
        convolution: 1x1, without bias.
        norm: its BatchNorm; running statistics are kept as it keeps them.

    Returns:
        weight (D, C) and bias (D,), float32, or float64 for such features.
    """
    wide = torch.promote_types(features.dtype, torch.float32)
    weight = convolution.weight.flatten(1).to(wide)
    with torch.autocast(features.device.type, enabled=False):  # statistics want full precision
        if norm.training:
            cells = features.movedim(1, -1).flatten(0, 2).to(wide)
            mean, covariance = checkpoint(_moments, cells, use_reentrant=False)
            mean, variance = weight @ mean, ((weight @ covariance) * weight).sum(dim=1)
            _keep(norm, mean.detach(), variance.detach(), len(cells))
        else:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            mean, variance = norm.running_mean, norm.running_var
        gain = norm.weight * (variance + norm.eps).rsqrt()
        return gain[:, None] * weight, norm.bias - gain * mean


def _moments(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (C,) and covariance (C, C) of cells (N, C) float, without a degree of freedom taken off."""
    mean = cells.mean(dim=0)
    centred = cells - mean
    return mean, centred.T @ centred / len(cells)


def _keep(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Moves the running statistics towards those of this batch, the variance without its bias."""
    assert norm.momentum is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    unbiased = variance * (count / max(count - 1, 1))
    norm.num_batches_tracked.add_(1)
    norm.running_mean.lerp_(mean.to(norm.running_mean), norm.momentum)
    norm.running_var.lerp_(unbiased.to(norm.running_var), norm.momentum)


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
