"""AtomicCheckpointIO: a checkpoint file is whole or absent, proves it by its sha256, and never runs code."""

from __future__ import annotations

import hashlib
import os
import pickle
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

SIDECAR = ".sha256"
PathLike = str | Path


class AtomicCheckpointIO(CheckpointIO):
    """Write checkpoints so that a crash, a full disk or a kill leaves the older file as it was.

    Lightning's own writer goes through the temporary folder and copies when that lies on another disk, and
    never asks the disk to finish. Here the bytes go to a file beside the target, are flushed to the disk, and
    take the target's name in one step. `<name>.sha256`, in the format of `sha256sum -c`, lies beside it.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: PathLike, storage_options: Any | None = None) -> None:
        """Write a checkpoint and its sha256.

        Args:
            checkpoint: tensors and plain containers.
            path: the file to write or replace; missing folders are made.
            storage_options: not used; it belongs to Lightning's interface.

        Raises:
            OSError: the disk is full or the like; the older file and its sha256 are untouched.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        new_sidecar = _sidecar(new)
        try:
            _write(new, lambda file: torch.save(checkpoint, file))
            line = f"{_digest(new)}  {target.name}\n"
            _write(new_sidecar, lambda file: file.write(line.encode()))
            _exchange(target, new, new_sidecar)
        finally:
            new.unlink(missing_ok=True)
            new_sidecar.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: PathLike, map_location: Any | None = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint: its sha256 is compared where there is one, and nothing in it can run code.

        Args:
            path: the file, or a link to it.
            map_location: where tensors go, as in torch.load.
            weights_only: not used; it is always True, whatever the caller asks for.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the sha256 differs, the file is damaged, or it holds more than tensors and containers.
        """
        target = Path(path).resolve()  # `last.ckpt` may be a link: the sha256 lies beside what it points to
        if not target.is_file():
            raise FileNotFoundError(f"there is no checkpoint '{path}'; mend the key that names it (checkpoint=PATH)")
        _check_digest(target)
        if not zipfile.is_zipfile(target):
            raise ValueError(f"'{path}' is no checkpoint, or it was cut off; choose another one (checkpoint=PATH)")
        try:
            checkpoint: dict[str, Any] = torch.load(target, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"'{path}' was refused: it holds more than tensors and plain containers, and loading that "
                "can run foreign code; choose a checkpoint that gss.train wrote (checkpoint=PATH)"
            ) from error
        return checkpoint

    def remove_checkpoint(self, path: PathLike) -> None:
        """Remove a checkpoint and its sha256; nothing happens if there is none."""
        target = Path(path)
        target.unlink(missing_ok=True)
        _sidecar(target).unlink(missing_ok=True)


def _sidecar(target: Path) -> Path:
    return target.with_name(target.name + SIDECAR)


def _write(path: Path, fill: Callable[[IO[bytes]], Any]) -> None:
    """Fill a new file and wait until the disk has it."""
    with path.open("xb") as file:
        fill(file)
        file.flush()
        os.fsync(file.fileno())


def _exchange(target: Path, new: Path, new_sidecar: Path) -> None:
    """Put both new files in place. A kill in between leaves a file without sha256, never a wrong pair."""
    _sidecar(target).unlink(missing_ok=True)
    _sync_folder(target.parent)
    os.replace(new, target)
    os.replace(new_sidecar, _sidecar(target))
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make renames durable, where the system can open folders (Windows cannot)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_digest(target: Path) -> None:
    """Compare a file with its sha256, where there is one."""
    sidecar = _sidecar(target)
    if not sidecar.is_file():
        return
    expected, found = (sidecar.read_text().split() or ["nothing"])[0], _digest(target)
    if expected != found:
        raise ValueError(
            f"'{target}' is damaged: its sha256 is {found[:12]}... and '{sidecar.name}' says "
            f"{expected[:12]}...; choose another checkpoint of the run (checkpoint=PATH)"
        )
