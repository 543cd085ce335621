"""Grids that share something with real ones but not their order: what a learned distribution has to beat."""

from __future__ import annotations

import torch
from torch import Tensor


def shuffled_within(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Each grid's own tokens in random places: (B, h, w) int64, its histogram kept."""
    flat = tokens.flatten(1)
    order = torch.rand(flat.shape, generator=generator, device=tokens.device).argsort(1)
    return flat.gather(1, order).view_as(tokens)


def shuffled_across(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Each place's tokens dealt anew among the grids: (B, h, w) int64, what is likely at a place kept."""
    order = torch.rand(tokens.shape, generator=generator, device=tokens.device).argsort(0)
    return tokens.gather(0, order)
