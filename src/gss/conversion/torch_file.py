"""The two formats of `torch.save`: a zip archive (since torch 1.6) and a row of pickles followed by raw storages."""

from __future__ import annotations

import hashlib
import math
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from gss.conversion.inert import InertUnpickler, Refused, Storage, StoredTensor

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
