"""Codes that never move: finite scalar and lookup-free quantization, of which only the usage is counted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from vector_quantize_pytorch import FSQ, LFQ

from gss.tokenizer.quantizer import Quantized, Quantizer

# How sharply LFQ's entropies see a latent. At the library's 100 they are flat except next to zero and the codebook
# collapses: 200 steps on drawn scenes used a quarter of 256 codes, and all of them at 10.
LFQ_INVERSE_TEMPERATURE = 10.0
FSQ_MARGIN = 1e-3  # by which the library's bound reaches beyond the outermost levels


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

    Its loss draws the latent to +-1, makes each cell's choice certain and the batch's choices diverse:
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
