"""OpenAI's encoder.pkl and decoder.pkl, pickled whole modules, to one safetensors file for `tokenizer=dalle`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from gss.tokenizer.dalle_network import DVAEDecoder, DVAEEncoder, DVAELayout
from gss.tokenizer.dalle_weights import HOW_TO_GET, DalleWeights, check_sources
from gss.tokenizer.inert_pickle import FoundModule, find_tensors, read_torch_file
from gss.tokenizer.published import find_dalle


def convert_dalle(folder: Path, output: Path, expected: Mapping[str, str]) -> DalleWeights:
    """Reads encoder.pkl and decoder.pkl of a folder, checks every name and shape, and writes the weights whole.

    Args:
        folder: holds the two files as published.
        output: the safetensors file to write.
        expected: SHA-256 in hex under `encoder` and `decoder`, where they are known.

    Raises:
        ValueError: if a file is missing, is not a dVAE, would execute something, or has another sum.
    """
    files = {part: read_torch_file(path) for part, path in find_dalle(folder).items()}
    sources = {part: file.sha256 for part, file in files.items()}
    check_sources(sources, expected, "--sha256")
    found = {part: find_tensors(file, f"dall_e.{part}.{part.title()}") for part, file in files.items()}
    layout = infer_layout(found["encoder"], found["decoder"])
    state: dict[str, Tensor] = {}
    with torch.device("meta"):
        networks = {"encoder": DVAEEncoder(layout), "decoder": DVAEDecoder(layout)}
    for part, network in networks.items():
        _check(files[part].name, found[part], network, layout)
        for name, _ in network.named_parameters():
            state[f"{part}.{name}"] = _ours(name, files[part].tensor(found[part].tensors[published_name(name)]))
    weights = DalleWeights(layout, sources, state)
    weights.save(output)
    return weights


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


def infer_layout(encoder: FoundModule, decoder: FoundModule) -> DVAELayout:
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


def _check(name: str, found: FoundModule, network: nn.Module, layout: DVAELayout) -> None:
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
        raise ValueError(f"{name} does not have the layout of the dVAE: {'; '.join(sorted(faults)[:10])}")


def _ours(name: str, tensor: Tensor) -> Tensor:
    """A published tensor as our parameter: the decoder's first 1x1 convolution (D, V, 1, 1) becomes codes (V, D)."""
    return tensor.flatten(1).T.contiguous() if name == "codebook.weight" else tensor
