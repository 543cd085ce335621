"""A dVAE of any size as OpenAI pickled its own: classes at the published module paths, without any code to run."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import nn


@dataclass(frozen=True)
class Sizes:
    """By the names of our settings."""

    vocab_size: int = 12
    hidden: int = 8
    num_blocks: int = 1
    code_dim: int = 6


class Conv2d(nn.Module):
    def __init__(self, n_in: int, n_out: int, kw: int) -> None:
        super().__init__()
        self.n_in, self.n_out, self.kw, self.use_float16 = n_in, n_out, kw, True
        self.device, self.requires_grad = torch.device("cpu"), False
        self.w = nn.Parameter(torch.randn(n_out, n_in, kw, kw) * (2 / (n_in * kw**2)) ** 0.5, requires_grad=False)
        self.b = nn.Parameter(0.3 * torch.randn(n_out), requires_grad=False)


class _Block(nn.Module):
    def __init__(self, n_in: int, n_out: int, kernels: tuple[int, ...], n_layers: int) -> None:
        super().__init__()
        self.n_in, self.n_out, self.n_layers, self.n_hid = n_in, n_out, n_layers, n_out // 4
        self.post_gain = 1 / n_layers**2
        self.id_path = nn.Identity() if n_in == n_out else Conv2d(n_in, n_out, 1)
        widths = [n_in, self.n_hid, self.n_hid, self.n_hid, n_out]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, kernel in enumerate(kernels, 1):
            layers[f"relu_{number}"] = nn.ReLU()
            layers[f"conv_{number}"] = Conv2d(widths[number - 1], widths[number], kernel)
        self.res_path = nn.Sequential(layers)


class EncoderBlock(_Block):
    pass


class DecoderBlock(_Block):
    pass


class Encoder(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.group_count, self.n_hid, self.vocab_size = 4, sizes.hidden, sizes.vocab_size
        widths = [sizes.hidden * width for width in (1, 1, 2, 4, 8)]
        layers = _groups(EncoderBlock, widths, sizes, (3, 3, 3, 1), "pool", lambda: nn.MaxPool2d(kernel_size=2))
        self.blocks = nn.Sequential(_ends(Conv2d(3, sizes.hidden, 7), layers, Conv2d(widths[-1], sizes.vocab_size, 1)))


class Decoder(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.group_count, self.n_init, self.vocab_size = 4, sizes.code_dim, sizes.vocab_size
        widths = [sizes.code_dim, *(sizes.hidden * width for width in (8, 4, 2, 1))]
        layers = _groups(DecoderBlock, widths, sizes, (1, 3, 3, 3), "upsample", lambda: nn.Upsample(scale_factor=2))
        first = Conv2d(sizes.vocab_size, sizes.code_dim, 1)
        nn.init.normal_(first.w)
        self.blocks = nn.Sequential(_ends(first, layers, Conv2d(sizes.hidden, 6, 1)))


def _groups(block, widths, sizes, kernels, between, make) -> OrderedDict[str, nn.Module]:
    groups: OrderedDict[str, nn.Module] = OrderedDict()
    for group in range(1, 5):
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(sizes.num_blocks):
            before = widths[group] if number else widths[group - 1]
            layers[f"block_{number + 1}"] = block(before, widths[group], kernels, 4 * sizes.num_blocks)
        if group < 4:
            layers[between] = make()
        groups[f"group_{group}"] = nn.Sequential(layers)
    return groups


def _ends(first: nn.Module, groups: OrderedDict[str, nn.Module], last: nn.Module) -> OrderedDict[str, nn.Module]:
    output = nn.Sequential(OrderedDict(relu=nn.ReLU(), conv=last))
    return OrderedDict(input=first, **groups, output=output)


PLACES = {
    "dall_e.encoder": (Encoder, EncoderBlock),
    "dall_e.decoder": (Decoder, DecoderBlock),
    "dall_e.utils": (Conv2d,),
}
OLD = (  # what a module of torch 1.7 kept; later versions keep more
    *("training", "_parameters", "_buffers", "_non_persistent_buffers_set", "_backward_hooks", "_forward_hooks"),
    *("_forward_pre_hooks", "_state_dict_hooks", "_load_state_dict_pre_hooks", "_modules"),
)


@contextmanager
def published_package() -> Iterator[None]:
    """Lets pickle find the classes at their published places, for as long as it writes."""
    made = {name: ModuleType(name) for name in ("dall_e", *PLACES)}
    homes = {kind: kind.__module__ for kinds in PLACES.values() for kind in kinds}
    for place, kinds in PLACES.items():
        for kind in kinds:
            setattr(made[place], kind.__name__, kind)
            kind.__module__ = place
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]
        for kind, home in homes.items():
            kind.__module__ = home


def build(sizes: Sizes, seed: int = 0) -> dict[str, nn.Module]:
    """Encoder and decoder with drawn weights, as a module of an old torch."""
    torch.manual_seed(seed)
    parts: dict[str, nn.Module] = {"encoder": Encoder(sizes), "decoder": Decoder(sizes)}
    for part in parts.values():
        for module in part.modules():
            newer = [name for name in module.__dict__ if name.startswith("_") and name not in OLD]
            for name in newer:
                del module.__dict__[name]
            module.__dict__["_parameters"] = OrderedDict(module.__dict__["_parameters"])
    return parts


def save_module(module: object, path: Path, legacy: bool = False) -> None:
    """`torch.save` of a whole module, as the published files were made."""
    with published_package():
        torch.save(module, path, _use_new_zipfile_serialization=not legacy)


def save_published(folder: Path, sizes: Sizes, legacy: bool = False) -> dict[str, dict[str, torch.Tensor]]:
    """Writes encoder.pkl and decoder.pkl; gives the tensors of each by published name."""
    tensors = {}
    for name, part in build(sizes).items():
        save_module(part, folder / f"{name}.pkl", legacy)
        tensors[name] = _tensors(part)
    return tensors


def _tensors(module: nn.Module, path: str = "") -> dict[str, torch.Tensor]:
    found = {f"{path}{name}": tensor for name, tensor in module.__dict__["_parameters"].items()}
    for name, child in module.__dict__["_modules"].items():
        found |= _tensors(child, f"{path}{name}.")
    return found
