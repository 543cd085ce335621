"""Sizes, stride and pixel mapping of OpenAI's discrete VAE, as published (Ramesh et al., 2021, appendix A)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

STRIDE = 8  # three halvings, between four groups of blocks
MARGIN = 0.1  # of the pixel mapping: a logit-Laplace likelihood needs values away from 0 and 1
WIDTHS = (1, 2, 4, 8)  # of the encoder's groups, in units of `hidden`; the decoder runs through them backwards


@dataclass(frozen=True)
class DVAELayout:
    """Sizes of the networks; the defaults are the published ones.

    Args:
        vocab_size: V, number of tokens.
        hidden: width of the first encoder group, a multiple of 4; the last is eight times as wide.
        num_blocks: residual blocks in each of the four groups.
        code_dim: length of a code, which is a column of the decoder's first 1x1 convolution.

    Raises:
        ValueError: for a size that the networks cannot have.
    """

    vocab_size: int = 8192
    hidden: int = 256
    num_blocks: int = 2
    code_dim: int = 128

    def __post_init__(self) -> None:
        if self.hidden < 4 or self.hidden % 4:
            raise ValueError(f"tokenizer.hidden={self.hidden} must be a multiple of 4 for tokenizer=dalle")
        for name in ("vocab_size", "num_blocks", "code_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"tokenizer.{name}={getattr(self, name)} must be at least 1 for tokenizer=dalle")

    @property
    def gain(self) -> float:
        """What a block's residual counts: 1 / (number of blocks)^2."""
        return 1 / (len(WIDTHS) * self.num_blocks) ** 2


def map_pixels(maskige: Tensor) -> Tensor:
    """Moves a picture (B, 3, H, W) float32 from [0, 1] into [0.1, 0.9]: (1 - 2 eps) x + eps."""
    return (1 - 2 * MARGIN) * maskige + MARGIN


def unmap_pixels(mapped: Tensor) -> Tensor:
    """Undoes `map_pixels` and clips: (B, 3, H, W) float32 in [0, 1] to the same."""
    return ((mapped - MARGIN) / (1 - 2 * MARGIN)).clamp(0, 1)
