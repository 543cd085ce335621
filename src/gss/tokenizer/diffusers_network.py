"""Networks of diffusers, an optional extra: built from settings, or read from a folder of published weights.

The folder is in diffusers' own format, as `save_pretrained` writes it: `config.json` and
`diffusion_pytorch_model.safetensors`. Nothing in it is executed, and nothing is fetched.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
BLOCKS = {"down": "DownEncoder", "up": "UpDecoder"}  # the kinds that every published autoencoder consists of
# Arguments that change nothing in what we compute: hints for diffusion pipelines, tiling and half precision.
INERT = {"self", "sample_size", "force_upcast", "lookup_from_codebook", "latents_mean", "latents_std"}


@dataclass(frozen=True)
class PublishedNetwork:
    """What a folder holds.

    Args:
        config: the network's arguments, defaults included.
        state: tensors by name, float32.
    """

    config: dict[str, Any]
    state: dict[str, Tensor]


def build_network(kind: str, stride: int, settings: Mapping[str, Any], **ours: Any) -> Any:
    """An untrained network of diffusers.

    Args:
        kind: its class, `VQModel` or `AutoencoderKL`.
        stride: pixels per token; every entry of `block_out_channels` but the last halves the picture.
        settings: `tokenizer.network`: arguments of that class as its `config.json` names them.
        ours: arguments that follow from other settings.

    Raises:
        ValueError: if diffusers is not installed, or the settings make no such network or another stride.
    """
    network_class = _diffusers_class(kind)
    known = set(inspect.signature(network_class.__init__).parameters) - INERT - set(ours)
    if unknown := sorted(set(settings) - known):
        raise ValueError(f"tokenizer.network has no {', '.join(unknown)}: {kind} takes {', '.join(sorted(known))}")
    widths = list(settings.get("block_out_channels", (64,)))
    if stride != (found := 2 ** (len(widths) - 1)):
        raise ValueError(
            f"tokenizer.stride={stride}, but the {len(widths)} entries of tokenizer.network.block_out_channels="
            f"{widths} make a stride of {found}: every entry but the last halves the picture"
        )
    blocks = {f"{way}_block_types": [f"{name}Block2D"] * len(widths) for way, name in BLOCKS.items()}
    try:
        return network_class(**{**blocks, **settings, **ours})
    except (TypeError, ValueError) as error:
        raise ValueError(f"tokenizer.network={dict(settings)} makes no {kind}: {error}") from error


def read_network(kind: str, folder: str | Path) -> PublishedNetwork:
    """The weights of a local folder in diffusers' format.

    Args:
        kind: the class that must have written it.
        folder: `tokenizer.weights`.

    Raises:
        ValueError: if diffusers or one of the two files is missing, or they are damaged or of another kind.
    """
    network_class, path = _diffusers_class(kind), Path(folder)
    if missing := [name for name in (CONFIG, WEIGHTS) if not (path / name).is_file()]:
        raise ValueError(
            f"there is no {' and no '.join(missing)} in tokenizer.weights={folder}: give a folder that "
            f"save_pretrained of diffusers' {kind} wrote; other formats, pickles among them, are not read"
        )
    try:
        if (declared := json.loads((path / CONFIG).read_text()).get("_class_name")) != kind:
            raise ValueError(f"it holds a {declared}, but this tokenizer needs a {kind}")
        network, report = network_class.from_pretrained(
            path, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise ValueError(f"tokenizer.weights={folder} cannot be read: {' '.join(str(error).split())[:300]}") from error
    if faults := [f"{fault[:-5]} {', '.join(map(str, names[:3]))}" for fault, names in report.items() if names]:
        raise ValueError(f"tokenizer.weights={folder} does not fit its own {CONFIG}: {'; '.join(faults)}")
    return PublishedNetwork(plain_config(network), network.state_dict())


def plain_config(network: Any) -> dict[str, Any]:
    """The arguments of a network that decide what it computes, as plain data."""
    config = {key: value for key, value in network.config.items() if key not in INERT and not key.startswith("_")}
    return dict(json.loads(json.dumps(config)))


def check_same(found: Mapping[str, Any], wanted: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Refuses published weights of another layout than the settings ask for.

    Args:
        found: arguments of the published network.
        wanted: arguments of ours.
        names: the configuration's key of an argument, where it is not `tokenizer.network.ARGUMENT`.

    Raises:
        ValueError: naming every difference with both values.
    """
    differences = [
        f"{names.get(key, f'tokenizer.network.{key}')} is {found.get(key)} in the weights "
        f"but {wanted[key]} in the configuration"
        for key in wanted
        if found.get(key) != wanted[key]
    ]
    if differences:
        raise ValueError(f"tokenizer.weights does not fit: {'; '.join(differences)}")


def _diffusers_class(kind: str) -> Any:
    try:
        library = import_module("diffusers")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"this tokenizer is a {kind} of diffusers, which is not installed: pip install 'gss[diffusers]'"
        ) from error
    return getattr(library, kind)
