"""Optimiser and learning-rate schedule, counted in steps: linear warm-up, then polynomial decay to zero.

And which parameters decay, and at which share of the learning rate each of them learns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler, PolynomialLR, SequentialLR

KEPT = (  # in the names of parameters that must not decay, however many dimensions they have
    "relative_position",
    "rel_pos",
    "pos_embed",
    "cls_token",
    "reg_token",
    "register_token",
    "dist_token",
    "storage_token",
    "logit_scale",
    "transform.colours",
)


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


@runtime_checkable
class Layered(Protocol):
    """A backbone that knows how deep its parameters lie."""

    def layer_depths(self) -> dict[str, int]:
        """Depth of parameters by their name within the backbone: 0 for the stem to N for the last block."""
        ...


def parameter_groups(module: nn.Module, layer_decay: float = 1.0, backbone_lr: float = 1.0) -> list[dict[str, Any]]:
    """Trainable parameters in pairs of groups, one pair for each share of the learning rate (`lr_factor`).

    The first group of a pair decays; in the second is what must not: vectors (norms, biases, layer scales), position
    tables, the tokens that transformers add, and maskige colours.

    Args:
        module: in which submodules named `backbone` are found.
        layer_decay: share of the learning rate from one depth of the backbone to the one before it.
        backbone_lr: share of the learning rate that the backbone's last block gets.
    """
    asked = (layer_decay, backbone_lr) != (1.0, 1.0)
    factors = backbone_factors(module, layer_decay, backbone_lr) if asked else {}
    pairs: dict[float, tuple[list[nn.Parameter], list[nn.Parameter]]] = {1.0: ([], [])}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decayed, kept = pairs.setdefault(factors.get(name, 1.0), ([], []))
            plain = parameter.ndim < 2 or any(part in name for part in KEPT)
            (kept if plain else decayed).append(parameter)
    return [
        group
        for factor, (decayed, kept) in pairs.items()
        for group in (
            {"params": decayed, "lr_factor": factor},
            {"params": kept, "lr_factor": factor, "weight_decay": 0.0},
        )
    ]


def backbone_factors(module: nn.Module, layer_decay: float, backbone_lr: float) -> dict[str, float]:
    """backbone_lr * layer_decay^(N - depth) by a parameter's name within the module (Clark et al., 2020, ELECTRA).

    Parameters that no depth is known of, such as a pyramid on top of a plain transformer, learn as the heads do.
    """
    factors: dict[str, float] = {}
    for name, part in module.named_modules():
        known = dict(part.named_parameters())
        if name.rpartition(".")[2] == "backbone" and isinstance(part, Layered):
            depths = part.layer_depths()
            assert depths.keys() <= known.keys()
            last = max(depths.values())
            factors |= {f"{name}.{inner}": backbone_lr * layer_decay ** (last - d) for inner, d in depths.items()}
    return factors
