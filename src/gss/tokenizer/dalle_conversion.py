"""OpenAI's encoder.pkl and decoder.pkl, pickled whole modules, to one safetensors file for `tokenizer=dalle`.

A pickle is a program: it names functions and calls them. Here `torch.load` gets an unpickler that looks each name up in
a table of stand-ins, which do nothing, and a name that is not in it ends the reading before anything is called. torch's
own `weights_only` reader can be given such a table too, but refuses whole modules in the format from before torch 1.6.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import warnings
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from gss.tokenizer.dalle_network import DVAEDecoder, DVAEEncoder, DVAELayout
from gss.tokenizer.dalle_weights import HOW_TO_GET, DalleWeights, check_sources
from gss.tokenizer.published import find_dalle

CLASSES = (  # what the published dVAE is made of
    *("dall_e.encoder.Encoder", "dall_e.encoder.EncoderBlock", "dall_e.decoder.Decoder", "dall_e.decoder.DecoderBlock"),
    *("dall_e.utils.Conv2d", "torch.nn.modules.container.Sequential", "torch.nn.modules.activation.ReLU"),
    *("torch.nn.modules.pooling.MaxPool2d", "torch.nn.modules.upsampling.Upsample", "torch.nn.modules.linear.Identity"),
)


@dataclass(frozen=True)
class PublishedModule:
    """What a file holds.

    Args:
        name: of the file, for messages.
        tensors: by published name, as the file has them.
        gains: of each block's residual, by the block's path.
    """

    name: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    gains: dict[str, object] = field(default_factory=dict)


class Inert:
    """Stands for an object of a class that the pickle names: keeps its state and has no behaviour."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


class Refused(ValueError):
    """The pickle names something that its kind of file does not need."""


def convert_dalle(folder: Path, output: Path, expected: Mapping[str, str]) -> DalleWeights:
    """Reads encoder.pkl and decoder.pkl of a folder, checks every name and shape, and writes the weights whole.

    Args:
        folder: holds the two files as published.
        output: the safetensors file to write.
        expected: SHA-256 in hex under `encoder` and `decoder`, where they are known.

    Raises:
        ValueError: if a file is missing, is not a dVAE, would execute something, or has another sum.
    """
    contents = {part: path.read_bytes() for part, path in find_dalle(folder).items()}
    sources = {part: hashlib.sha256(content).hexdigest() for part, content in contents.items()}
    check_sources(sources, expected, "--sha256")
    found = {
        part: read_module(f"{part}.pkl", content, f"dall_e.{part}.{part.title()}") for part, content in contents.items()
    }
    layout = infer_layout(found["encoder"], found["decoder"])
    with torch.device("meta"):
        networks = {"encoder": DVAEEncoder(layout), "decoder": DVAEDecoder(layout)}
    state: dict[str, Tensor] = {}
    for part, network in networks.items():
        _check(found[part], network, layout)
        for name, _ in network.named_parameters():
            tensor = found[part].tensors[published_name(name)].float().contiguous()
            # the decoder's first 1x1 convolution (D, V, 1, 1) becomes codes (V, D)
            state[f"{part}.{name}"] = tensor.flatten(1).T.contiguous() if name == "codebook.weight" else tensor
    weights = DalleWeights(layout, sources, state)
    weights.save(output)
    return weights


def read_module(name: str, content: bytes, kind: str) -> PublishedModule:
    """The tensors of a module that `torch.save` wrote whole, without executing anything in it.

    Args:
        name: of the file, for messages.
        content: of the file.
        kind: dotted name of the class that the module must have.

    Raises:
        ValueError: naming what a malicious file would run, or saying that the file is damaged or of another kind.
    """
    root = load_inert(name, content)
    if not isinstance(root, Inert) or type(root).__name__ != kind:
        raise ValueError(f"{name} holds {type(root).__name__}, expected {kind}: fetch the published file")
    found, seen = PublishedModule(name), set[int]()

    def walk(module: Inert, path: str) -> None:
        """Collects a module and all below it, each with its dotted path."""
        if id(module) in seen:
            raise ValueError(f"{name} holds one module in two places, at {path}: it is not OpenAI's dVAE")
        seen.add(id(module))
        held = vars(module)
        if (gain := held.get("post_gain")) is not None:
            found.gains[path] = gain
        for table, wanted in (("_parameters", Tensor), ("_modules", Inert)):
            if not isinstance(held.get(table), dict):
                raise ValueError(f"{name}: {type(module).__name__} has no {table}; fetch the file again")
            for key, value in held[table].items():
                if not isinstance(value, wanted):
                    raise ValueError(f"{name}: {path}{key} is not in its place; fetch the file again")
                if isinstance(value, Inert):
                    walk(value, f"{path}{key}.")
                else:
                    found.tensors[f"{path}{key}"] = value

    walk(root, "")
    return found


def load_inert(name: str, content: bytes) -> Any:
    """The object that `torch.save` wrote, with real tensors and a stand-in for every other object.

    Args:
        name: of the file, for messages.
        content: of the file, in the zip format or the one from before torch 1.6.

    Raises:
        ValueError: naming what a malicious file would run, or saying that the file is damaged or of another kind.
    """
    if b"constants.pkl" in content:  # by which torch.load knows TorchScript, and would hand it to torch.jit.load
        raise Refused(f"{name} is a TorchScript program: refused, it is not OpenAI's dVAE")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the old format compares the source code of classes
            unpickler = _inert_pickle(name)
            return torch.load(io.BytesIO(content), map_location="cpu", pickle_module=unpickler, weights_only=False)
    except Refused:
        raise
    except Exception as error:  # a damaged pickle ends in any of a dozen ways
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{name} is damaged or was not written by torch.save ({type(error).__name__}: {reason}): fetch it again"
        ) from error


def _inert_pickle(file_name: str) -> Any:
    """What torch.load needs of a pickle module. Stand-ins are made anew, so nothing done to them outlives the file."""

    def tensor(storage: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *others: Any) -> Tensor:
        """Stands for `torch._utils._rebuild_tensor_v2`; a tensor larger than its storage is refused."""
        made: Tensor = torch._utils._rebuild_tensor(storage, offset, shape, strides)
        if made.numel() * made.element_size() > made.untyped_storage().nbytes():
            raise ValueError(f"a tensor of {shape} does not lie in its storage")
        return made

    known: dict[str, Any] = {
        "collections.OrderedDict": OrderedDict,
        "builtins.set": set,
        "torch.device": torch.device,
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_parameter": lambda data, *others: data,
        **{kind: type(kind, (Inert,), {}) for kind in CLASSES},
    }

    class Unpickler(pickle.Unpickler):
        """Finds stand-ins only; torch adds types of storages, and the storages themselves."""

        def find_class(self, module: str, name: str) -> Any:
            """The stand-in for a name; any other is refused before it is looked at or called."""
            # pickles of protocol 2 spell names as Python 2 did: __builtin__.eval, commands.Popen
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
            if f"{module}.{name}" not in known:
                raise Refused(f"{file_name} would run {module}.{name} when loaded: refused, it is not OpenAI's dVAE")
            return known[f"{module}.{name}"]

    def load(file: Any, **settings: Any) -> Any:
        """Stands for `pickle.load`."""
        return Unpickler(file, **settings).load()

    return SimpleNamespace(__name__="inert", Unpickler=Unpickler, load=load)


def published_name(name: str) -> str:
    """The name in the published module of a parameter of DVAEEncoder or DVAEDecoder; its numbers begin at 1."""
    name = {"codebook.weight": "input.weight", "code_bias": "input.bias"}.get(name, name)
    *path, kind = name.split(".")
    match path:
        case ["groups", group, block, "shortcut"]:
            place = f"group_{int(group) + 1}.block_{int(block) + 1}.id_path"
        case ["groups", group, block, "convolutions", number]:
            place = f"group_{int(group) + 1}.block_{int(block) + 1}.res_path.conv_{int(number) + 1}"
        case ["output"]:
            place = "output.conv"
        case _:
            place = ".".join(path)
    return f"blocks.{place}.{kind[0]}"


def infer_layout(encoder: PublishedModule, decoder: PublishedModule) -> DVAELayout:
    """The sizes that the shapes of a few tensors tell.

    Raises:
        ValueError: if one of them is not there.
    """
    first_convolution = re.compile(r"blocks\.group_1\.block_\d+\.res_path\.conv_1\.w")
    try:
        return DVAELayout(
            vocab_size=encoder.tensors["blocks.output.conv.w"].shape[0],
            hidden=encoder.tensors["blocks.input.w"].shape[0],
            num_blocks=sum(first_convolution.fullmatch(name) is not None for name in encoder.tensors),
            code_dim=decoder.tensors["blocks.input.w"].shape[0],
        )
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"the files are not those of a dVAE: no usable {error}; {HOW_TO_GET}") from error


def _check(found: PublishedModule, network: nn.Module, layout: DVAELayout) -> None:
    """Compares names, shapes and gains with the layout, and says what differs (the first few)."""
    shapes = {}
    for ours, parameter in network.named_parameters():
        shape = tuple(parameter.shape)
        shapes[published_name(ours)] = (*shape[::-1], 1, 1) if ours == "codebook.weight" else shape
    faults = [f"{tensor} is missing" for tensor in shapes.keys() - found.tensors.keys()]
    faults += [f"{tensor} is unknown" for tensor in found.tensors.keys() - shapes.keys()]
    for tensor in shapes.keys() & found.tensors.keys():
        if tuple(found.tensors[tensor].shape) != shapes[tensor]:
            faults.append(f"{tensor} is {tuple(found.tensors[tensor].shape)}, expected {shapes[tensor]}")
    faults += [f"{path}post_gain is {gain}" for path, gain in found.gains.items() if gain != layout.gain]
    if faults:
        raise ValueError(f"{found.name} does not have the layout of the dVAE: {'; '.join(sorted(faults)[:10])}")
