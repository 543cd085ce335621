"""The two formats of `torch.save`: a zip archive (since torch 1.6) and a row of pickles followed by raw storages."""

from __future__ import annotations

import hashlib
import math
import pickle
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple

import torch
from torch import Tensor

# FOLDED Reads the pickle inside a torch file with stand-ins that do nothing in place of everything that it names.
# FOLDED
# FOLDED A pickle is a program: it names functions and calls them. Here each name is looked up in a table of stand-
# ins, and a
# FOLDED name that is not in it ends the reading before anything is called. torch's own `weights_only` reader
# refuses whole
# FOLDED modules, which is what some published weights are.


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


_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001


@dataclass(frozen=True)
class TorchFile:
    """A file's object with stand-ins for all its classes, its storages, and the SHA-256 in hex of the file."""

    name: str
    root: Any
    storages: Mapping[str, bytearray]
    sha256: str

    def tensor(self, stored: StoredTensor) -> Tensor:
        """The numbers of a stored tensor, of its shape, as float32.

        Raises:
            ValueError: if it reaches beyond its storage.
        """
        storage, shape, strides = stored.storage, stored.shape, stored.strides
        content = self.storages.get(storage.key, b"")
        if len(content) != storage.num_elements * storage.dtype.itemsize or not _lies_within(stored):
            raise ValueError(f"{self.name} is damaged: a tensor of {shape} does not lie in its storage {storage.key}")
        flat = torch.frombuffer(content, dtype=storage.dtype)
        return flat.as_strided(shape, strides, stored.offset).float().contiguous()


def read_torch_file(path: Path) -> TorchFile:
    """Reads a file that `torch.save` wrote, without executing anything in it.

    Raises:
        ValueError: naming what a malicious file would run, or saying that the file is damaged or of another kind.
    """
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        try:
            root, storages = (_read_zip if zipfile.is_zipfile(path) else _read_legacy)(file, path.name)
        except Refused:
            raise
        except Exception as error:  # a damaged pickle ends in any of a dozen ways
            raise ValueError(
                f"{path.name} is damaged or was not written by torch.save ({type(error).__name__}: {error}): "
                "fetch it again"
            ) from error
    return TorchFile(path.name, root, storages, sha256)


def _read_zip(file: BinaryIO, name: str) -> tuple[Any, dict[str, bytearray]]:
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        (pickled,) = [entry for entry in entries if entry.endswith("/data.pkl") and entry.count("/") == 1]
        folder = pickled.removesuffix("data.pkl")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
            raise ValueError("its entries are compressed")
        if f"{folder}byteorder" in entries and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("its numbers are not little-endian")
        with archive.open(pickled) as data:
            root = InertUnpickler(data, name).load()
        prefix = f"{folder}data/"
        storages = {
            entry.removeprefix(prefix): bytearray(archive.read(entry)) for entry in entries if entry.startswith(prefix)
        }
    return root, storages


def _read_legacy(file: BinaryIO, name: str) -> tuple[Any, dict[str, bytearray]]:
    """Five pickles (magic number, protocol, system, object, storage keys), then each storage: length and numbers."""
    magic, protocol, system = (InertUnpickler(file, name).load() for _ in range(3))
    if (magic, protocol) != (_LEGACY_MAGIC, _LEGACY_PROTOCOL) or system["little_endian"] is not True:
        raise ValueError("its first words are not those of torch.save")
    unpickler = _Remembering(file, name)
    root, storages = unpickler.load(), {}
    for key in InertUnpickler(file, name).load():
        num_elements = int.from_bytes(file.read(8), sys.byteorder)
        if num_elements != unpickler.storages[key].num_elements:
            raise ValueError(f"storage {key} has another length than its tensor")
        storages[key] = bytearray(file.read(num_elements * unpickler.storages[key].dtype.itemsize))
    return root, storages


class _Remembering(InertUnpickler):
    """Keeps the storages that the pickle refers to: in the old format only it knows their types."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        super().__init__(file, name)
        self.storages: dict[str, Storage] = {}

    def persistent_load(self, reference: Any) -> Any:
        """As before, and remembered."""
        found = super().persistent_load(reference)
        if isinstance(found, Storage):
            self.storages[found.key] = found
        return found


def _lies_within(stored: StoredTensor) -> bool:
    """Whether a tensor stays in its storage and is no larger than it."""
    last = stored.offset + sum((side - 1) * step for side, step in zip(stored.shape, stored.strides, strict=True))
    return 0 < math.prod(stored.shape) <= stored.storage.num_elements and last < stored.storage.num_elements


# FOLDED A pickled module as a table: its tensors by the dotted names that a state dict would give them.


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
