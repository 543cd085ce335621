"""Optimiser and learning-rate schedule, counted in steps: linear warm-up, then polynomial decay to zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler, PolynomialLR, SequentialLR

KEPT = ("relative_position", "pos_embed", "transform.colours")  # in the names of parameters that must not decay


@dataclass(frozen=True)
class Optimisation:
    """How a stage is optimised (the released recipe: AdamW, poly schedule, linear warm-up).

    Args:
        optimizer: makes the optimiser from parameter groups, e.g. a partial of `torch.optim.AdamW`.
        max_steps: steps until the learning rate reaches zero.
        warmup_steps: steps over which it rises linearly; at most half of `max_steps` is used.
        power: of the polynomial decay.
        gradient_clip: largest gradient norm; 0 leaves gradients alone.
    """

    optimizer: Callable[..., Optimizer]
    max_steps: int
    warmup_steps: int = 100
    power: float = 1.0
    gradient_clip: float = 0.0

    def build(self, module: nn.Module) -> tuple[Optimizer, LRScheduler]:
        """The optimiser over a module's trainable parameters, and its schedule, to be stepped once per step."""
        optimizer = self.optimizer(parameter_groups(module))
        warmup = min(self.warmup_steps, self.max_steps // 2)
        decay = PolynomialLR(optimizer, total_iters=self.max_steps - warmup, power=self.power)
        if warmup == 0:
            return optimizer, decay
        rise = LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup)
        return optimizer, SequentialLR(optimizer, [rise, decay], milestones=[warmup])


def parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Weights, and apart from them what must not decay: vectors (norms, biases), position tables, maskige colours."""
    decay: list[nn.Parameter] = []
    keep: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            plain = parameter.ndim < 2 or any(kept in name for kept in KEPT)
            (keep if plain else decay).append(parameter)
    return [{"params": decay}, {"params": keep, "weight_decay": 0.0}]
