"""What every quantizer of a learned tokenizer does: each vector of a latent becomes one of V codes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

USAGE_FLOOR = 1e-3  # cells: a code that never occurs keeps a finite logarithm


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
