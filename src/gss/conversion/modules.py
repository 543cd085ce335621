"""A pickled module as a table: its tensors by the dotted names that a state dict would give them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gss.conversion.inert import Inert, StoredTensor
from gss.conversion.torch_file import TorchFile


class FoundModule(NamedTuple):
    """What a file holds: the tensors by published name, and each block's gain."""

    tensors: dict[str, StoredTensor]
    gains: dict[str, object]


def find_tensors(file: TorchFile, kind: str) -> FoundModule:
    """Walks the stand-ins of a pickled module.

    Raises:
        ValueError: if its class is not `kind`, or it is not built like a module.
    """
    if not isinstance(file.root, Inert) or type(file.root).kind != kind:
        holds = getattr(type(file.root), "kind", type(file.root).__name__)
        raise ValueError(f"{file.name} holds {holds}, expected {kind}: fetch the published file")
    found = FoundModule({}, {})
    for path, module in _modules(file, file.root, "", set()):
        if (gain := module.__dict__.get("post_gain")) is not None:
            found.gains[path] = gain
        for name, tensor in _table(file, module, "_parameters").items():
            if not isinstance(tensor, StoredTensor):
                raise ValueError(f"{file.name}: {path}{name} is not a tensor; fetch the file again")
            found.tensors[f"{path}{name}"] = tensor
    return found


def _modules(file: TorchFile, module: Inert, path: str, seen: set[int]) -> Iterator[tuple[str, Inert]]:
    """A module and all below it, each with its dotted path; one that holds itself is refused."""
    if id(module) in seen:
        raise ValueError(f"{file.name} holds one module in two places, at {path}: it is not OpenAI's dVAE")
    seen.add(id(module))
    yield path, module
    for name, child in _table(file, module, "_modules").items():
        if not isinstance(child, Inert):
            raise ValueError(f"{file.name}: {path}{name} is not a module; fetch the file again")
        yield from _modules(file, child, f"{path}{name}.", seen)


def _table(file: TorchFile, module: Inert, name: str) -> dict[str, object]:
    table = module.__dict__.get(name)
    if not isinstance(table, dict):
        raise ValueError(f"{file.name}: {type(module).kind} has no {name}; fetch the file again")
    return table
