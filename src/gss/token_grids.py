"""Token grids of whole label maps, with one code more than the tokenizer has: V stands for a cell without any label.

A tokenizer has no token for such a cell and encodes it as whatever is nearest, which the conditioning network never
learns. A distribution over grids has to know it, or the bonnet at the bottom of a street scene is drawn as a car.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gss.labels import IGNORE
from gss.pipeline import MaskigeAutoencoder
from gss.targets import token_valid


@torch.no_grad()
def encode_map(autoencoder: MaskigeAutoencoder, labels: Tensor) -> Tensor:
    """Tokens (B, h, w) int64 in [0, V] of labels (B, H, W) int64 in [0, K) or 255."""
    unlabelled = autoencoder.tokenizer.vocab_size
    return autoencoder.encode(labels).masked_fill(~token_valid(labels, autoencoder.stride), unlabelled)


@torch.no_grad()
def decode_map(autoencoder: MaskigeAutoencoder, tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels (B, H, W) int64 in [0, K) or 255, cut to (H, W) `size`, of tokens (B, h, w) int64 in [0, V]."""
    unlabelled = tokens == autoencoder.tokenizer.vocab_size
    nothing = torch.full((1, *size), IGNORE, device=tokens.device)
    labels = autoencoder.decode(torch.where(unlabelled, autoencoder.encode(nothing), tokens), size).labels
    return labels.masked_fill(cell_pixels(unlabelled, autoencoder.stride, size), IGNORE)


def cell_pixels(cells: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """The pixels of cells (..., h, w) bool with `stride` pixels to a side: (..., H, W) bool, cut to (H, W) `size`."""
    pixels = cells.repeat_interleave(stride, -2).repeat_interleave(stride, -1)
    return pixels[..., : size[0], : size[1]]
