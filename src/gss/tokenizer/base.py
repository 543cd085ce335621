"""What every tokenizer does: maskige -> tokens -> maskige, also from a distribution over tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

PSEUDO_COUNT = 0.5  # cells that every token is credited with, so that none is impossible


@dataclass(frozen=True)
class Decoded:
    """What tokens decode to.

    Args:
        show: gives the maskige (B, 3, H, W) float32 in [0, 1]; who wants labels alone never asks.
        class_probs: (B, K, H, W) float32 summing to 1 over K where the tokenizer itself knows classes; None where it
            speaks in colours only and the inverse X^-1 has to read them.
    """

    show: Callable[[], Tensor]
    class_probs: Tensor | None = None

    @classmethod
    def colours(cls, maskige: Tensor) -> Decoded:
        """A maskige (B, 3, H, W) float32 in [0, 1] and nothing else."""
        return cls(lambda: maskige)

    @cached_property
    def maskige(self) -> Tensor:
        """The picture, (B, 3, H, W) float32 in [0, 1]."""
        return self.show()


@dataclass(frozen=True)
class Reconstruction:
    """One training pass of a learned tokenizer.

    Args:
        maskige: (B, 3, H, W) float32 in [0, 1], the reconstruction.
        tokens: (B, h, w) int64 in [0, V).
        commitment: scalar float32, the quantizer's own loss.
        class_scores: (B, K, H, W) float32, log-probabilities up to a constant per pixel, where the tokenizer itself
            knows classes and is trained on labels; None where it is trained on colours.
    """

    maskige: Tensor
    tokens: Tensor
    commitment: Tensor
    class_scores: Tensor | None = None


@dataclass(frozen=True)
class CellClasses:
    """What each token shows, where a cell's class probabilities depend on its own token alone.

    Args:
        probs: (V, K, stride, stride) float32, sums to 1 over K.
        likeliest: (V, stride^2) int64, the likeliest class at each pixel.
        least: (K, V) float32, the least probability of each class within the cell.
        most: (K, V) float32, the largest.
    """

    probs: Tensor
    likeliest: Tensor
    least: Tensor
    most: Tensor


class Tokenizer(nn.Module, ABC):
    """Turns a maskige into tokens and tokens into a maskige.

    `trainable` and `fitted` say how it learns: by gradient on `reconstruct`, once by `fit`, or by `fit` and then by
    gradient. `knows_classes` says that it decodes to classes of the one palette that it was fitted to, not to colours
    alone.
    """

    stride: int
    vocab_size: int
    trainable: bool
    fitted: bool
    knows_classes = False

    @abstractmethod
    def encode(self, maskige: Tensor) -> Tensor:
        """The posterior's argmax: (B, 3, H, W) float in [0, 1] to tokens (B, H/stride, W/stride) int64 in [0, V)."""

    @abstractmethod
    def decode(self, tokens: Tensor) -> Decoded:
        """Tokens (B, h, w) int64 in [0, V) to a maskige (B, 3, h * stride, w * stride) float32."""

    @property
    @abstractmethod
    def code_table(self) -> Tensor:
        """What the decoder reads of each token, and may be averaged over tokens: (V, C) float32."""

    @property
    def code_blocks(self) -> Sequence[tuple[Tensor | None, Tensor]]:
        """`code_table` in blocks of columns, each without the tokens that are 0 there, so that averages cost less.

        A block is its tokens (R,) int64, or None for all, and their entries (R, C_i) float32.
        """
        return [(None, self.code_table)]

    @property
    def cell_classes(self) -> CellClasses | None:
        """What each token shows by itself, from which labels can be had without a picture; None: not so simple."""
        return None

    @abstractmethod
    def decode_mixed(self, mixed: Tensor) -> Decoded:
        """Decodes averages (B, C, h, w) float32 of `code_table`."""

    def decode_expected(self, token_probs: Tensor) -> Decoded:
        """Decodes the expected embedding under token_probs (B, V, h, w) float, which sums to 1 over V."""
        with full_precision(token_probs):
            return self.decode_mixed(torch.einsum("bvhw,vc->bchw", token_probs.float(), self.code_table))

    def token_logits(self, maskige: Tensor) -> Tensor:
        """Differentiable scores over tokens, through which colours can be learned; their argmax is what `encode` gives.

        Args:
            maskige: (B, 3, H, W) float in [0, 1].

        Returns:
            (B, V, h, w) float32.
        """
        raise NotImplementedError(f"{type(self).__name__} passes no gradient from tokens to the maskige")

    def posterior(self, maskige: Tensor, candidates: int, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """The distribution over tokens that the tokenizer itself has, softmax(token_logits / temperature), cut short.

        It is made picture by picture, because V scores per cell are many.

        Args:
            maskige: (B, 3, H, W) float in [0, 1].
            candidates: k, how many of the likeliest tokens are kept; at most V are.
            temperature: positive; towards 0 all goes to the likeliest.

        Returns:
            Tokens (B, h, w, k) int64 in [0, V), the likeliest first, and their shares (B, h, w, k) float32, which sum
            to 1 over k.
        """
        number = min(candidates, self.vocab_size)
        best = [self.token_logits(picture[None]).topk(number, dim=1) for picture in maskige]
        logits, tokens = (torch.cat(parts).movedim(1, -1) for parts in zip(*best, strict=True))
        return tokens, shares_of(logits, temperature)

    @abstractmethod
    def log_usage(self) -> Tensor:
        """Log of each token's share of the training cells: (V,) float32."""

    def load_weights(self) -> None:
        """Reads the published weights that the settings name; called once, before the tokenizer is trained or fitted.

        Raises:
            ValueError: if they are missing, damaged, or of another layout.
        """

    def fit(
        self,
        maskiges: Iterable[Tensor],
        colours: Tensor,
        ignore_colour: Tensor,
        on_iteration: Callable[[int], None] = lambda iteration: None,
    ) -> None:
        """Fits a tokenizer with `fitted`.

        Args:
            maskiges: training pictures (B, 3, H, W) float32 in [0, 1] in exact palette colours.
            colours: (K, 3) float32 in [0, 1], the palette; some tokenizers know none.
            ignore_colour: (3,) float32 in [0, 1].
            on_iteration: called with the number of iterations done, or of pictures counted.

        Raises:
            ValueError: if there is nothing to fit to, or the weights that it begins from cannot be read.
        """
        raise NotImplementedError(f"{type(self).__name__} is trained by gradient, not fitted")

    def reconstruct(self, maskige: Tensor) -> Reconstruction:
        """One differentiable pass of a learned tokenizer: (B, 3, H, W) float in [0, 1] through tokens to the same."""
        raise NotImplementedError(f"{type(self).__name__} is fitted, not trained by gradient")


def shares_of(logits: Tensor, temperature: float) -> Tensor:
    """softmax(logits / temperature) over the last of any dimensions, float32, however near to 0 the temperature is."""
    logits = logits.float()
    return ((logits - logits.amax(dim=-1, keepdim=True)) / temperature).softmax(dim=-1)


def full_precision(tensor: Tensor) -> torch.autocast:
    """Switches mixed precision off on a tensor's device (any shape): 8 bits of mantissa would pick other tokens."""
    return torch.autocast(tensor.device.type, enabled=False)


def check_divisible(maskige: Tensor, stride: int) -> None:
    """Raises a ValueError unless both sides of a picture (B, 3, H, W) are multiples of the token stride."""
    height, width = maskige.shape[-2:]
    if height % stride or width % stride:
        raise ValueError(
            f"a picture of {height}x{width} does not divide into tokens of stride {stride}: "
            f"choose data.size as multiples of tokenizer.stride"
        )


def count_tokens(
    tokenizer: Tokenizer,
    maskiges: Iterable[Tensor],
    ignore_colour: Tensor,
    num_pictures: int,
    on_iteration: Callable[[int], None],
) -> Tensor:
    """How often training maskiges use each token of a tokenizer that is not trained on them.

    Every cell that covers a labelled pixel counts, among the first pictures, and PSEUDO_COUNT cells for each token.

    Args:
        tokenizer: its tokens are counted.
        maskiges: pictures (B, 3, H, W) float32 in [0, 1].
        ignore_colour: (3,) float32 in [0, 1], on the tokenizer's device.
        num_pictures: how many are encoded.
        on_iteration: called with the number of pictures counted.

    Returns:
        Counts (V,) float32 on that device.
    """
    counts, done = torch.full((tokenizer.vocab_size,), PSEUDO_COUNT, device=ignore_colour.device), 0
    for maskige in maskiges:
        kept = maskige[: num_pictures - done].to(ignore_colour)
        labelled = (kept - ignore_colour[:, None, None]).abs().amax(1) > 1e-4
        counted = nn.functional.max_pool2d(labelled.float(), tokenizer.stride) > 0
        counts += tokenizer.encode(kept)[counted].bincount(minlength=tokenizer.vocab_size)
        done += len(kept)
        on_iteration(done)
        if done >= num_pictures:
            break
    return counts
