"""Quantizers of learned tokenizers: each vector of a latent becomes one of V codes.

Codes follow the latents that they stand for (`ema`), or never move and only their usage is counted: finite scalar
quantization (`fsq`) and lookup-free quantization (`lfq`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor, nn
from vector_quantize_pytorch import FSQ, LFQ, VectorQuantize

from gss.registry import lookup

USAGE_FLOOR = 1e-3  # cells: a code that never occurs keeps a finite logarithm
# How sharply LFQ's entropies see a latent. At the library's 100 they are flat except next to zero and the codebook
# collapses: 200 steps on drawn scenes used a quarter of 256 codes, and all of them at 10.
LFQ_INVERSE_TEMPERATURE = 10.0
FSQ_MARGIN = 1e-3  # by which the library's bound reaches beyond the outermost levels
SMALLEST, LARGEST, FEW = 3, 16, 5  # levels of a dimension: the library has no grid of 2, and fewer than 5 lose most


@dataclass(frozen=True)
class Quantized:
    """One training pass of a quantizer.

    Args:
        latent: (B, D, h, w) float32, the codes, with straight-through gradients to the latent that came.
        tokens: (B, h, w) int64 in [0, V).
        commitment: scalar float32, the quantizer's own loss; 0 where it needs none.
    """

    latent: Tensor
    tokens: Tensor
    commitment: Tensor


class Quantizer(nn.Module, ABC):
    """Replaces each vector of a latent (B, D, h, w) float32 by one of V codes of length D.

    Full precision is the caller's duty: a latent in 8 bits of mantissa would get other tokens.

    Args:
        dim: D.
        vocab_size: V.
    """

    def __init__(self, dim: int, vocab_size: int) -> None:
        super().__init__()
        self.dim, self.vocab_size = dim, vocab_size

    @property
    @abstractmethod
    def codebook(self) -> Tensor:
        """The codes in the order of their tokens: (V, D) float32."""

    @property
    @abstractmethod
    def usage(self) -> Tensor:
        """Cells per training step that took each code, as a moving average: (V,) float32, from 0 on."""

    @abstractmethod
    def encode(self, latent: Tensor) -> Tensor:
        """The tokens of a latent: (B, D, h, w) float32 to (B, h, w) int64 in [0, V)."""

    def logits(self, latent: Tensor) -> Tensor:
        """Differentiable scores over the codes, whose argmax is the token: minus the squared distance to each.

        What all codes of a cell share is left out.

        Args:
            latent: (B, D, h, w) float32.

        Returns:
            (B, V, h, w) float32.
        """
        rows, codes = self.place(latent).movedim(1, -1), self.codebook
        scores = torch.addmm(-codes.square().sum(1), rows.flatten(0, 2), codes.T, alpha=2)
        return scores.view(*rows.shape[:-1], len(codes)).movedim(-1, 1)

    def place(self, latent: Tensor) -> Tensor:
        """Where a latent (B, D, h, w) float32 lies among the codes, of the same shape; here it lies there already."""
        return latent

    @abstractmethod
    def forward(self, latent: Tensor) -> Quantized:
        """A training pass over a latent (B, D, h, w) float32, by the same codes as `encode`."""

    def log_usage(self) -> Tensor:
        """Log of each code's share of the cells of recent training steps: (V,) float32, finite."""
        usage = self.usage + USAGE_FLOOR
        return (usage / usage.sum()).log()


class MovingAverageCodes(Quantizer):
    """Codes that follow the mean of the latents that they stand for (`VectorQuantize`).

    Codes that fall out of use restart at latents of the batch.

    Args:
        dim: D.
        vocab_size: V.
        decay: of the moving averages.
    """

    def __init__(self, dim: int, vocab_size: int, decay: float) -> None:
        super().__init__(dim, vocab_size)
        self.layer = VectorQuantize(
            dim=dim,
            codebook_size=vocab_size,
            decay=decay,
            kmeans_init=True,
            threshold_ema_dead_code=1,
            accept_image_fmap=True,
            rotation_trick=False,
        )

    @property
    def codebook(self) -> Tensor:
        """The codes: (V, D) float32."""
        return torch.as_tensor(self.layer.codebook)

    @property
    def usage(self) -> Tensor:
        """The library's own moving average: (V,) float32."""
        return torch.as_tensor(self.layer._codebook.cluster_size.flatten())

    def start_from(self, codes: Tensor) -> None:
        """Takes over codes (V, D) float32, instead of choosing them from the first batch."""
        held = self.layer._codebook
        held.embed.copy_(codes)
        held.embed_avg.copy_(codes)
        held.cluster_size.fill_(1)
        held.initted.fill_(True)

    def encode(self, latent: Tensor) -> Tensor:
        """Nearest code by Euclidean distance: (B, D, h, w) float32 to (B, h, w) int64 in [0, V)."""
        return self.logits(latent).argmax(1)

    def forward(self, latent: Tensor) -> Quantized:
        """Quantizes a latent (B, D, h, w) float32, then moves the codes; the loss pulls latents to their codes."""
        return Quantized(*self.layer(latent))


class _FixedCodes(Quantizer):
    """A grid of codes that never moves; how often each is used is counted while training."""

    usage_average: Tensor

    def __init__(self, dim: int, vocab_size: int, decay: float) -> None:
        super().__init__(dim, vocab_size)
        self.decay = decay
        self.register_buffer("usage_average", torch.ones(vocab_size))

    @property
    def usage(self) -> Tensor:
        """The moving average of what was counted: (V,) float32."""
        return self.usage_average

    def _count(self, tokens: Tensor) -> None:
        if self.training:
            counts = torch.bincount(tokens.flatten(), minlength=self.vocab_size)
            self.usage_average.lerp_(counts.to(self.usage_average), 1 - self.decay)


class FiniteScalarCodes(_FixedCodes):
    """Each dimension is bounded and rounded to a few levels (`FSQ`, arXiv:2309.15505); needs no loss of its own.

    Args:
        levels: of each dimension; their product is V, their number D.
        decay: of the counted usage.
        even: bound by cutting off at -1 and 1, with evenly spaced levels from the one to the other, for a latent that
            means something between the levels; otherwise by tanh, for one that only has to be told apart.
    """

    def __init__(self, levels: Sequence[int], decay: float, even: bool = False) -> None:
        layer = FSQ(list(levels), preserve_symmetry=even, bound_hard_clamp=even)
        super().__init__(len(levels), int(layer.codebook_size), decay)
        self.layer, self.even = layer, even

    @property
    def codebook(self) -> Tensor:
        """The grid: (V, D) float32 in [-1, 1]."""
        return torch.as_tensor(self.layer.implicit_codebook)

    def encode(self, latent: Tensor) -> Tensor:
        """The rounded levels as one number: (B, D, h, w) float32 to (B, h, w) int64 in [0, V)."""
        return torch.as_tensor(self.layer(latent)[1]).long()

    def place(self, latent: Tensor) -> Tensor:
        """The latent as tanh bounds it before it is rounded, or, among even levels, as it is: (B, D, h, w) float32."""
        if self.even:
            return latent
        levels = self.layer._levels.view(-1, 1, 1)
        half = (levels - 1) * (1 + FSQ_MARGIN) / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0)
        bounded = (latent + (offset / half).atanh()).tanh() * half - offset
        return torch.as_tensor(bounded / (levels // 2))

    def forward(self, latent: Tensor) -> Quantized:
        """Rounds a latent (B, D, h, w) float32 and counts."""
        codes, tokens = self.layer(latent)
        self._count(tokens)
        return Quantized(codes, tokens.long(), latent.new_zeros(()))


class LookupFreeCodes(_FixedCodes):
    """The signs of the latent are the code (`LFQ`, arXiv:2310.05737).

    Its loss pulls the latent to +-1, makes each cell's choice certain and the batch's choices diverse:
    |z - q|^2 + entropy_weight * (E[H(p)] - diversity * H(E[p])), with p ~ exp(-10 |z - code|^2) over the codes. The
    entropies take memory for cells times V numbers.

    Args:
        vocab_size: V, a power of two; D = log2(V).
        decay: of the counted usage.
        entropy_weight: of the entropies beside the distance.
        diversity: weight of the batch's entropy within the entropies.

    Raises:
        ValueError: if V is not a power of two.
    """

    def __init__(self, vocab_size: int, decay: float, entropy_weight: float, diversity: float) -> None:
        if vocab_size < 2 or vocab_size & (vocab_size - 1):
            below = 1 << max(vocab_size.bit_length() - 1, 1)
            raise ValueError(
                f"tokenizer.vocab_size={vocab_size} must be a power of two for tokenizer.quantizer=lfq: "
                f"choose {below} or {2 * below}"
            )
        super().__init__(vocab_size.bit_length() - 1, vocab_size, decay)
        self.layer = LFQ(
            codebook_size=vocab_size,
            entropy_loss_weight=entropy_weight,
            commitment_loss_weight=1.0,
            diversity_gamma=diversity,
            straight_through_activation=nn.Identity(),  # the library's default is one module shared by all
        )

    @property
    def codebook(self) -> Tensor:
        """The corners of a cube: (V, D) float32, each -1 or 1."""
        return torch.as_tensor(self.layer.codebook)

    def encode(self, latent: Tensor) -> Tensor:
        """The signs as bits, the first dimension the highest: (B, D, h, w) float32 to (B, h, w) int64 in [0, V)."""
        bits = (latent > 0).movedim(1, -1)
        return torch.as_tensor((bits * self.layer.mask).sum(-1))

    def forward(self, latent: Tensor) -> Quantized:
        """Takes the signs of a latent (B, D, h, w) float32 and counts."""
        codes, tokens, loss = self.layer(latent, inv_temperature=LFQ_INVERSE_TEMPERATURE)
        self._count(tokens)
        return Quantized(codes, tokens, loss)


def fsq_levels(vocab_size: int, levels: Sequence[int] | None = None) -> tuple[int, ...]:
    """Levels of each dimension, whose product is exactly the vocabulary size V.

    Without given levels, the factors of V from 3 to 16 are taken: as few below 5 as possible, then the smallest
    largest factor, then the fewest factors. So 1024 becomes (16, 8, 8), 1000 becomes (8, 5, 5, 5) and 240 (8, 6, 5).

    Args:
        vocab_size: V.
        levels: a choice of one's own, each from 3 on.

    Raises:
        ValueError: if V is no such product, naming the nearest sizes that are, or if the given levels are not V codes.
    """
    if levels is not None:
        if not levels or min(levels) < SMALLEST or math.prod(levels) != vocab_size:
            raise ValueError(
                f"tokenizer.levels={list(levels)} must be whole numbers from {SMALLEST} on with the product "
                f"tokenizer.vocab_size={vocab_size}, but their product is {math.prod(levels)}"
            )
        return tuple(levels)
    found = _best(vocab_size)
    if found is None:
        below = next((size for size in range(vocab_size - 1, SMALLEST - 1, -1) if _best(size)), None)
        above = next(size for size in count(max(vocab_size + 1, SMALLEST)) if _best(size))
        near = " or ".join(str(size) for size in (below, above) if size is not None)
        raise ValueError(
            f"tokenizer.vocab_size={vocab_size} is no product of levels from {SMALLEST} to {LARGEST}, which "
            f"tokenizer.quantizer=fsq needs: choose {near}, or give tokenizer.levels"
        )
    return found


def _best(vocab_size: int) -> tuple[int, ...] | None:
    """The product of V in the order of preference of `fsq_levels`; None where V is none."""

    def rank(levels: tuple[int, ...]) -> tuple[int, int, int]:
        """What the smallest is sought of."""
        return sum(level < FEW for level in levels), levels[0], len(levels)

    return min(_products(vocab_size, LARGEST), key=rank, default=None) if vocab_size >= SMALLEST else None


def _products(product: int, largest: int) -> Iterator[tuple[int, ...]]:
    """Every way to write a number as a falling product of levels up to the largest."""
    if product == 1:
        yield ()
    for level in range(min(largest, product), SMALLEST - 1, -1):
        if product % level == 0:
            yield from ((level, *rest) for rest in _products(product // level, level))


def build_quantizer(
    name: str,
    vocab_size: int,
    code_dim: int,
    decay: float,
    levels: Sequence[int] | None,
    entropy_weight: float,
    diversity: float,
) -> Quantizer:
    """The quantizer that `tokenizer.quantizer` names: ema (with code_dim), fsq (with levels) or lfq (with entropies).

    Raises:
        ValueError: for another name, levels without fsq, or a vocabulary size that the quantizer cannot have.
    """
    if levels is not None and name != "fsq":
        raise ValueError(f"tokenizer.levels={list(levels)} is for tokenizer.quantizer=fsq, not {name}: set it to null")
    quantizers: dict[str, Callable[[], Quantizer]] = {
        "ema": lambda: MovingAverageCodes(code_dim, vocab_size, decay),
        "fsq": lambda: FiniteScalarCodes(fsq_levels(vocab_size, levels), decay),
        "lfq": lambda: LookupFreeCodes(vocab_size, decay, entropy_weight, diversity),
    }
    return lookup(quantizers, "tokenizer.quantizer", name)()
