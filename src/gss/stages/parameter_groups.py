"""Which parameters decay, and at which share of the learning rate each of them learns."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import nn

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
