"""Optimiser and learning-rate schedule, counted in steps: linear warm-up, then polynomial decay to zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler, PolynomialLR, SequentialLR

from gss.stages.parameter_groups import parameter_groups


@dataclass(frozen=True)
class Optimisation:
    """How a stage is optimised (the released recipe: AdamW, poly schedule, linear warm-up).

    Args:
        optimizer: makes the optimiser from parameter groups, e.g. a partial of `torch.optim.AdamW`.
        max_steps: steps until the learning rate reaches zero.
        warmup_steps: steps over which it rises linearly; at most half of `max_steps` is used.
        power: of the polynomial decay.
        gradient_clip: largest gradient norm; 0 leaves gradients alone.
        warmup_ratio: of the learning rate that the rise begins at, in (0, 1] (released recipe: 1e-6); None: one
            warm-up step's share.
        layer_decay: by which the learning rate falls from one depth of the backbone to the one before it, in (0, 1].
        backbone_lr: factor on the learning rate of the backbone, above 0.

    Raises:
        ValueError: if one of the last three is out of range.
    """

    optimizer: Callable[..., Optimizer]
    max_steps: int
    warmup_steps: int = 100
    power: float = 1.0
    gradient_clip: float = 0.0
    warmup_ratio: float | None = None
    layer_decay: float = 1.0
    backbone_lr: float = 1.0

    def __post_init__(self) -> None:
        for name in ("warmup_ratio", "layer_decay"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"optim.{name} must lie in (0, 1], got {value}")
        if self.backbone_lr <= 0:
            raise ValueError(
                f"optim.backbone_lr must be above 0, got {self.backbone_lr}: backbone.frozen_stages keeps stages fixed"
            )

    def build(self, module: nn.Module) -> tuple[Optimizer, LRScheduler]:
        """The optimiser over a module's trainable parameters, and its schedule, to be stepped once per step."""
        optimizer = self.optimizer(parameter_groups(module, self.layer_decay, self.backbone_lr))
        for group in optimizer.param_groups:  # the schedules take each group's rate as it is now for the full one
            group["lr"] *= group["lr_factor"]
        warmup = min(self.warmup_steps, self.max_steps // 2)
        decay = PolynomialLR(optimizer, total_iters=self.max_steps - warmup, power=self.power)
        if warmup == 0:
            return optimizer, decay
        start = 1 / warmup if self.warmup_ratio is None else self.warmup_ratio
        rise = LinearLR(optimizer, start_factor=start, total_iters=warmup)
        return optimizer, SequentialLR(optimizer, [rise, decay], milestones=[warmup])
