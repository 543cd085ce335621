"""How a stage is executed on the hardware at hand: compiled, in which order of memory, by one process or several."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gss.networks.conditioning import ConditioningNetwork

T = TypeVar("T")

OWN_KEYS = ("compile", "channels_last")  # of the group hardware; all others are the Trainer's


def prepare_network(network: ConditioningNetwork, hardware: Mapping[str, Any]) -> None:
    """Makes a network run as the group hardware says, in place; names and values of its weights stay the same.

    Args:
        network: its backbone and fusion are compiled; the heads, whose work depends on the labels, are not.
        hardware: with the keys accelerator, `compile` and `channels_last`, of which the last two may be left out.

    Raises:
        ValueError: if it is to be compiled and there is no compiler.
    """
    if hardware.get("channels_last", False):
        network.to(memory_format=torch.channels_last)
        network.register_forward_pre_hook(_images_last)
    if hardware.get("compile", False):
        _check_compiler(hardware["accelerator"])
        for part in (network.backbone, network.fusion):
            part.compile()


def gathered(mine: T) -> list[T]:
    """What every process of a run gives, in the order of their ranks and the same on all of them.

    Args:
        mine: of this process, anything that can be pickled; alone in the list where there is one process only.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [mine]
    everyones = [mine] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyones, mine)
    return everyones


def _images_last(network: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Brings images (B, 3, H, W) into the order in which a pixel's channels lie side by side."""
    image, *others = arguments
    return image.contiguous(memory_format=torch.channels_last), *others


def _check_compiler(accelerator: str) -> None:
    if accelerator == "gpu":
        found, needed = importlib.util.find_spec("triton") is not None, "the package triton"
    else:
        needed = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
        found = shutil.which(needed) is not None
    if not found:
        raise ValueError(
            f"hardware.compile=true needs {needed}, which was not found: install it, or set hardware.compile=false"
        )
