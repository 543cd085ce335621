"""safetensors files with one JSON text in the header's metadata under `gss`; nothing in them is executed when read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor


def tensor_bytes(header: dict[str, Any], state: dict[str, Tensor]) -> bytes:
    """The content of a file that holds a header and tensors of any shape by name."""
    return safetensors.torch.save(state, {"gss": json.dumps(header)})


def read_tensors(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header, empty where there is none of ours, and the tensors by name, shapes and dtypes as they were written.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("gss", "{}"))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (safetensors.SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(str(error)) from error
    return header if isinstance(header, dict) else {}, state


def write_whole(target: Path, content: bytes) -> None:
    """Writes a file beside its target first and moves it there whole, so no half-written file has the name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
