"""Weights of a local file for a timm network: read without executing anything, and loaded whole or refused."""

from __future__ import annotations

import inspect
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

WRAPPERS = ("state_dict", "model")  # under which training programs keep the weights
CONVERTERS = ("checkpoint_filter_fn", "_filter_fn")  # timm's names for what turns an original file into timm's naming
SHOWN = 3  # names of each kind in a message


@dataclass(frozen=True)
class Misfit:
    """What keeps a state dict from filling a network.

    Args:
        missing: names that the network has and the file has not.
        unexpected: names in the file, inside parts that the network has, that the network does not have.
        misshaped: names of both with both shapes in words.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshaped: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshaped)

    def __str__(self) -> str:
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.misshaped}
        return ", ".join(f"{len(names)} {kind} ({_few(names)})" for kind, names in kinds.items() if names)


def load_weights(network: nn.Module, path: str, name: str) -> None:
    """Fills a network from a file in timm's naming, or in an original one that timm can translate.

    A classifier, and any other part that the network does not have, may be in the file or not; a part that it has must
    be there whole. ResNet-34's weights are therefore no ResNet-18's, although they hold all of its names.

    Args:
        network: timm network, without its classifier.
        path: safetensors file, or a state dict of torch, plain or under `state_dict` or `model`.
        name: timm model name, for messages.

    Raises:
        ValueError: in one sentence, for a file that is not there, is no state dict, or is of another architecture.
    """
    state = read_state(path)
    misfit = compare(network, state)
    if misfit:
        state = translate(network, state)
        misfit = compare(network, state)
    if misfit:
        raise ValueError(
            f"backbone.weights={path} does not fit backbone.name={name}: {misfit}; name the network that the file is of"
        )
    network.load_state_dict({key: state[key] for key in network.state_dict() if key in state}, strict=False)


def read_state(path: str) -> dict[str, Tensor]:
    """The tensors of a file by name; a pickle is read by torch's weights-only reader.

    Raises:
        ValueError: if there is no such file, or it is not a state dict.
    """
    if not Path(path).is_file():
        raise ValueError(f"backbone.weights={path} is not a file: give a state dict or safetensors file")
    try:
        held: Any = (
            load_file(path)
            if path.endswith(".safetensors")
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"backbone.weights={path} cannot be read as a state dict or safetensors: {reason}") from error
    for wrapper in WRAPPERS:
        held = held[wrapper] if isinstance(held, Mapping) and isinstance(held.get(wrapper), Mapping) else held
    state = (
        {key: value for key, value in held.items() if isinstance(value, Tensor)} if isinstance(held, Mapping) else {}
    )
    if not state:
        raise ValueError(f"backbone.weights={path} holds no tensors by name: give a state dict or safetensors file")
    return state


def compare(network: nn.Module, state: Mapping[str, Tensor]) -> Misfit:
    """How a state dict differs from what a network needs; counters of batches and absent parts do not count."""
    needed = network.state_dict()
    parts = {key.partition(".")[0] for key in needed}
    return Misfit(
        tuple(key for key in needed if key not in state and not key.endswith("num_batches_tracked")),
        tuple(key for key in state if key not in needed and key.partition(".")[0] in parts),
        tuple(
            f"{key} is {tuple(state[key].shape)}, not {tuple(needed[key].shape)}"
            for key in needed
            if key in state and state[key].shape != needed[key].shape
        ),
    )


def translate(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict in timm's naming and table sizes, if it is of a format that timm knows for this network."""
    module = sys.modules[type(network).__module__]
    convert = next((getattr(module, name) for name in CONVERTERS if hasattr(module, name)), None)
    if convert is None:
        return state
    arguments = (state, network)[: len(inspect.signature(convert).parameters)]
    try:
        converted: dict[str, Tensor] = convert(*arguments)
    except (LookupError, AttributeError, TypeError, ValueError, RuntimeError):
        return state  # no format of this network: the caller says what does not fit
    return converted


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
