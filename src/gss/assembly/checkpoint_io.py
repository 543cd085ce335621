"""Checkpoint files: whole or absent, proved by their sha256, and read without running code.

`<name>.sha256`, in the format of `sha256sum -c`, lies beside a checkpoint.
"""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from gss.atomic_files import written_together


def save_checkpoint(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Writes a checkpoint and its sha256.

    Args:
        checkpoint: tensors and plain containers.
        path: the file to write or replace; missing folders are made.

    Raises:
        OSError: the disk is full or the like; the older file and its sha256 are untouched.
    """
    target = Path(path)
    with written_together(target, _sidecar(target)) as (new, new_sidecar):
        with new.open("wb") as file:  # a path would be noted inside the file
            torch.save(checkpoint, file)
        new_sidecar.write_text(f"{_digest(new)}  {target.name}\n")


def load_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Reads a checkpoint: its sha256 is compared where there is one, and nothing in it can run code.

    Args:
        path: the file, or a link to it.
        map_location: where tensors go, as in torch.load.

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


def remove_checkpoint(path: str | Path) -> None:
    """Removes a checkpoint and its sha256; nothing happens if there is none."""
    target = Path(path)
    target.unlink(missing_ok=True)
    _sidecar(target).unlink(missing_ok=True)


def _sidecar(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_digest(target: Path) -> None:
    """Compares a file with its sha256, where there is one."""
    sidecar = _sidecar(target)
    if not sidecar.is_file():
        return
    expected, found = (sidecar.read_text().split() or ["nothing"])[0], _digest(target)
    if expected != found:
        raise ValueError(
            f"'{target}' is damaged: its sha256 is {found[:12]}... and '{sidecar.name}' says "
            f"{expected[:12]}...; choose another checkpoint of the run (checkpoint=PATH)"
        )
