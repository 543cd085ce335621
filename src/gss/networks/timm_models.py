"""timm's network of a name, opened to images of any size, with the settings that a backbone may take.

Also how deep each of its weights lies, by block and by stage, and the freezing of its first stages.
"""

from __future__ import annotations

import difflib
from typing import Any

import timm
from timm.layers.drop import DropPath
from timm.models import FeatureInfo, group_parameters
from torch import nn

SWIN = {"strict_img_size": False, "always_partition": True}  # shifted in every stage, as in published segmenters
ANY_SIZE: dict[str, dict[str, Any]] = {  # modules of timm whose networks are made for one input size otherwise
    "vision_transformer": {"dynamic_img_size": True},
    "deit": {"dynamic_img_size": True},
    "eva": {"dynamic_img_size": True},
    "swin_transformer": SWIN,
    "swin_transformer_v2": SWIN,
    "swin_transformer_v2_cr": {"strict_img_size": False},
}
FEATURES_ONLY = {  # networks that timm cuts itself: HRNet's four resolutions, not widened for a classifier
    "hrnet": {"features_only": True, "feature_location": "", "out_indices": (1, 2, 3, 4)},
}
OUTPUT_STRIDES = (8, 16, 32)
NUM_STAGES = 4  # after the stem


def build_network(name: str, pretrained: bool, drop_path: float, output_stride: int | None) -> Any:
    """timm's network, with its classifier still on where timm has not cut it.

    Args:
        name: timm model name, with or without the tag of its weights.
        pretrained: load timm's published weights.
        drop_path: largest rate of dropping residual paths; grows linearly with depth.
        output_stride: of the coarsest level, by dilation; None: the network's own.

    Raises:
        ValueError: naming the key, for a name or tag that timm does not have, weights that cannot be had, and settings
            that the network does not take.
    """
    check_name(name, pretrained)
    if not 0 <= drop_path < 1:
        raise ValueError(f"backbone.drop_path={drop_path} must lie in [0, 1)")
    if output_stride not in (None, *OUTPUT_STRIDES):
        raise ValueError(f"backbone.output_stride={output_stride}: expected 8, 16, 32, or null for the network's")
    settings = {**ANY_SIZE.get(family(name), {}), **FEATURES_ONLY.get(family(name), {})}
    settings |= {"drop_path_rate": drop_path} if drop_path else {}
    settings |= {"output_stride": output_stride} if output_stride in (8, 16) else {}
    network = _create(name, pretrained, settings)
    if drop_path and not any(isinstance(module, DropPath) for module in network.modules()):
        raise _not_taken(name, "drop_path", 0)
    if output_stride in (8, 16) and feature_levels(network)[-1]["reduction"] != output_stride:
        raise _not_taken(name, "output_stride", "null")
    return network


def check_name(name: str, pretrained: bool) -> None:
    """Whether timm has the architecture, the tag, and if they are wanted the weights.

    Raises:
        ValueError: with the nearest names, or the tags that there are.
    """
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3) or ["resnet18"]
        raise ValueError(f"timm has no backbone.name={name!r}: nearest are {', '.join(near)}")
    if tag and name not in (published := timm.list_pretrained(f"{architecture}.*")):
        raise ValueError(f"timm has no weights of backbone.name={name!r}: there are {', '.join(published) or 'none'}")
    weights = timm.get_pretrained_cfg(name)
    if pretrained and not (weights and weights.has_weights):
        raise ValueError(
            f"backbone.pretrained=true, but timm publishes no weights for backbone.name={name}: "
            "set backbone.pretrained=false or backbone.weights=FILE"
        )


def family(name: str) -> str:
    """The module of timm that makes a network: resnet, hrnet, swin_transformer, ..."""
    return str(timm.model_entrypoint(name).__module__.rpartition(".")[2])


def feature_levels(network: Any) -> list[dict[str, Any]]:
    """What timm says of each map that the network gives, finest first: `num_chs`, `reduction`, `module`."""
    info = network.feature_info
    return list(info.get_dicts()) if cut_by_timm(network) else list(info)


def cut_by_timm(network: Any) -> bool:
    """Whether timm made the network a feature network, which gives its maps when it is called."""
    return isinstance(network.feature_info, FeatureInfo)


def check_gives_maps(network: Any, name: str) -> None:
    """Whether this timm can take maps from inside a whole network.

    Raises:
        ValueError: if it cannot; older releases cannot for some old networks.
    """
    if not hasattr(network, "forward_intermediates"):
        raise ValueError(f"timm {timm.__version__} gives no feature maps of backbone.name={name}: choose another")


def set_checkpointing(network: Any, name: str) -> None:
    """Has activations inside the network computed again in the backward pass instead of kept.

    Raises:
        ValueError: if the network, or this timm for it, does not do that.
    """
    release = tuple(int(part) for part in timm.__version__.split(".")[:3])
    # before 1.0.31 a ResNet that gives its intermediate maps ignores the switch silently
    if family(name) == "resnet" and release < (1, 0, 31):
        raise ValueError(f"backbone.checkpointing=true needs timm>=1.0.31 for {name}, found {timm.__version__}")
    try:
        network.set_grad_checkpointing(True)
    except (AssertionError, AttributeError) as error:
        raise _not_taken(name, "checkpointing", "false") from error


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
    weights = {name: list(module.parameters()) for name, module in network.named_modules()}
    return tuple(name for name, held in weights.items() if held and not any(one.requires_grad for one in held))


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


def _depths(network: Any, coarse: bool) -> dict[str, int]:
    if hasattr(network, "group_matcher"):
        grouped: dict[str, int] = group_parameters(network, network.group_matcher(coarse=coarse), reverse=True)
        return grouped
    parts = list(dict.fromkeys(name.partition(".")[0] for name, _ in network.named_parameters()))
    return {name: parts.index(name.partition(".")[0]) for name, _ in network.named_parameters()}


def _create(name: str, pretrained: bool, settings: dict[str, Any]) -> Any:
    try:
        return timm.create_model(name, pretrained=pretrained, **settings)
    except (TypeError, AssertionError) as error:  # how timm says that a network does not take a setting
        for setting, key, remedy in (("drop_path_rate", "drop_path", 0), ("output_stride", "output_stride", "null")):
            if setting in settings and (setting in str(error) or isinstance(error, AssertionError)):
                raise _not_taken(name, key, remedy) from error
        raise
    except OSError as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"backbone.pretrained=true: timm could not fetch the weights of {name} ({reason}); give a local file as "
            "backbone.weights=FILE, or set backbone.pretrained=false"
        ) from error


def _not_taken(name: str, key: str, remedy: object) -> ValueError:
    return ValueError(f"backbone.name={name} does not take backbone.{key}: set backbone.{key}={remedy}")
