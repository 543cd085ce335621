"""How deep each weight of a timm network lies, by block and by stage, and the freezing of its first stages."""

from __future__ import annotations

from typing import Any

from timm.models import group_parameters
from torch import nn

NUM_STAGES = 4


def block_depths(network: Any) -> dict[str, int]:
    """Depth of every parameter, from 0 = stem to N = last block.

    timm says which block a parameter belongs to; where it does not, a network's parts count in their order.
    """
    return _depths(network, coarse=False)


def stage_depths(network: Any) -> dict[str, int]:
    """Stage of every parameter, from 0 = stem to 4 = last; a plain transformer's is a quarter of its blocks."""
    depths = _depths(network, coarse=True)
    last = max(depths.values()) or 1
    return {name: -(-NUM_STAGES * depth // last) for name, depth in depths.items()}


def freeze(network: nn.Module, num_stages: int) -> tuple[str, ...]:
    """Takes the gradient from the stem and the first stages.

    Args:
        network: timm network.
        num_stages: 0 freezes nothing, 1 stem and first stage, 4 everything.

    Returns:
        Names of the modules that hold frozen weights only, to be kept in evaluation mode: their batch statistics do not
        move and their paths are not dropped.

    Raises:
        ValueError: naming `backbone.frozen_stages`.
    """
    if not 0 <= num_stages <= NUM_STAGES:
        raise ValueError(
            f"backbone.frozen_stages={num_stages}: expected 0 (nothing) to {NUM_STAGES} (stem and all stages)"
        )
    if num_stages == 0:
        return ()
    for name, stage in stage_depths(network).items():
        if stage <= num_stages:
            network.get_parameter(name).requires_grad_(False)
    return tuple(name for name, module in network.named_modules() if _is_frozen(module))


def _is_frozen(module: nn.Module) -> bool:
    weights = list(module.parameters())
    return bool(weights) and not any(weight.requires_grad for weight in weights)


def _depths(network: Any, coarse: bool) -> dict[str, int]:
    if hasattr(network, "group_matcher"):
        grouped: dict[str, int] = group_parameters(network, network.group_matcher(coarse=coarse), reverse=True)
        return grouped
    parts = list(dict.fromkeys(name.partition(".")[0] for name, _ in network.named_parameters()))
    return {name: parts.index(name.partition(".")[0]) for name, _ in network.named_parameters()}
