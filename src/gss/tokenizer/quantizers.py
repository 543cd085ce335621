"""The quantizers by name, and the one whose codes move: vectors that follow the latents they stand for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from vector_quantize_pytorch import VectorQuantize

from gss.tokenizer.fixed_codes import FiniteScalarCodes, LookupFreeCodes
from gss.tokenizer.levels import fsq_levels
from gss.tokenizer.quantizer import Quantized, Quantizer


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
        """Quantizes a latent (B, D, h, w) float32, then moves the codes; the loss draws latents to their codes."""
        return Quantized(*self.layer(latent))


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
    if name == "ema":
        return MovingAverageCodes(code_dim, vocab_size, decay)
    if name == "fsq":
        return FiniteScalarCodes(fsq_levels(vocab_size, levels), decay)
    if name == "lfq":
        return LookupFreeCodes(vocab_size, decay, entropy_weight, diversity)
    raise ValueError(f"unknown tokenizer.quantizer={name!r}: one of ema, fsq, lfq")
