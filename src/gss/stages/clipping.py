"""Gradients clipped part by part, so that what is trained beside a network has no say in the length of its steps."""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer


def clip_apart(optimizer: Optimizer, part: nn.Module, largest: float) -> None:
    """Clips the norm of a part's gradient, and apart from it that of all else that the optimiser moves.

    Args:
        optimizer: of a step whose gradients are made, and not scaled.
        part: some of whose parameters it moves.
        largest: norm, of each of both.
    """
    inside = {id(parameter) for parameter in part.parameters()}
    moved = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for belongs in (True, False):
        nn.utils.clip_grad_norm_([one for one in moved if (id(one) in inside) == belongs], largest)
