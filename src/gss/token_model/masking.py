"""How much of a grid is masked, in training and while drawing: the cosine schedule (MaskGIT, section 3.3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def share_masked(progress: float | Tensor) -> Tensor:
    """Share of the tokens, in [0, 1], that is still masked after a share `progress` in [0, 1] of the steps.

    It falls slowly at first, while little is known: gamma(r) = cos(r pi / 2).
    """
    return torch.cos(torch.as_tensor(progress) * (math.pi / 2)).clamp(min=0.0)


def random_masks(num_grids: int, grid: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Which tokens the model has to find in training: at least one of each grid.

    Args:
        num_grids: B.
        grid: (h, w).
        generator: of all random numbers, on the CPU.

    Returns:
        (B, h, w) bool, True where masked; the share of each grid is gamma(r) of its own r, uniform in [0, 1].
    """
    num_tokens = grid[0] * grid[1]
    shares = share_masked(torch.rand(num_grids, 1, generator=generator))
    ranks = torch.rand(num_grids, num_tokens, generator=generator).argsort(1).argsort(1)
    return (ranks < (shares * num_tokens).ceil().clamp(min=1)).view(num_grids, *grid)
