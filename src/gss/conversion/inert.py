"""Reads the pickle inside a torch file with stand-ins that do nothing in place of everything that it names.

A pickle is a program: it names functions and calls them. Here each name is looked up in a table of stand-ins, and a
name that is not in it ends the reading before anything is called. torch's own `weights_only` reader refuses whole
modules, which is what some published weights are.
"""

from __future__ import annotations

import pickle
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, ClassVar

import torch


class Refused(ValueError):
    """The pickle names something that its kind of file does not need."""


@dataclass(frozen=True)
class Storage:
    """A run of numbers outside the pickle: its key in the file, its type and its length."""

    key: str
    dtype: torch.dtype
    num_elements: int


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in a storage, in elements; whether that is inside is checked when it is read."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Inert:
    """Stands for an object of a class that the pickle names: keeps its state and has no behaviour.

    Attributes:
        kind: dotted name of the class that is stood for.
    """

    kind: ClassVar[str]

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


MODULES = {  # what the published dVAE is made of
    "dall_e.encoder": ("Encoder", "EncoderBlock"),
    "dall_e.decoder": ("Decoder", "DecoderBlock"),
    "dall_e.utils": ("Conv2d",),
    "torch": ("device",),
    "torch.nn.modules.container": ("Sequential",),
    "torch.nn.modules.activation": ("ReLU",),
    "torch.nn.modules.pooling": ("MaxPool2d",),
    "torch.nn.modules.upsampling": ("Upsample",),
    "torch.nn.modules.linear": ("Identity",),
}


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *others: Any) -> StoredTensor:
    """Stands for `torch._utils._rebuild_tensor_v2`."""
    if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise ValueError("a tensor without storage, shape or strides")
    if len(shape) != len(strides) or not all(type(n) is int and n >= 0 for n in (offset, *shape, *strides)):
        raise ValueError("a tensor with an impossible shape")
    return StoredTensor(storage, offset, shape, strides)


def _parameter(data: Any, *others: Any) -> Any:
    """Stands for `torch._utils._rebuild_parameter`: the tensor itself."""
    return data


class InertUnpickler(pickle.Unpickler):
    """An unpickler that finds stand-ins only.

    Args:
        file: the pickle, open for reading in binary.
        name: of the file, for messages.
    """

    def __init__(self, file: Any, name: str) -> None:
        super().__init__(file)
        self._name = name
        self._known: dict[str, Any] = {  # made anew for each file: nothing that one does to them reaches another
            "collections.OrderedDict": OrderedDict,
            "builtins.set": set,
            "torch.FloatStorage": torch.float32,
            "torch.HalfStorage": torch.float16,
            "torch._utils._rebuild_tensor_v2": _tensor,
            "torch._utils._rebuild_parameter": _parameter,
        }
        for module, names in MODULES.items():
            for kind in (f"{module}.{name}" for name in names):
                self._known[kind] = type(kind, (Inert,), {"kind": kind})

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name.

        Raises:
            Refused: for a name that is not part of the published dVAE; nothing of it was looked at or called.
        """
        # pickles of protocol 2 spell names as Python 2 did: __builtin__.eval, commands.Popen
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        if f"{module}.{name}" not in self._known:
            raise Refused(f"{self._name} would run {module}.{name} when loaded: refused, it is not OpenAI's dVAE")
        return self._known[f"{module}.{name}"]

    def persistent_load(self, reference: Any) -> Any:
        """What lies outside the pickle: a storage; in old files also a class with its source text, which is dropped."""
        match reference:
            case ("storage", torch.dtype() as dtype, str(key), _, int(num_elements), *views) if views in ([], [None]):
                return Storage(key, dtype, num_elements)
            case ("module", type() as stand_in, _, _):
                return stand_in
        raise ValueError(f"an unknown reference: {str(reference)[:100]}")
