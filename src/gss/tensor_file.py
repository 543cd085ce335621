"""safetensors files with one JSON text in the header's metadata under `gss`; nothing in them is executed when read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from gss.atomic_files import write_whole


def write_tensors(path: str | Path, header: dict[str, Any], state: dict[str, Tensor]) -> None:
    """Writes a header and tensors of any shape by name, whole or not at all; missing folders are made."""
    write_whole(Path(path), safetensors.torch.save(state, {"gss": json.dumps(header)}))


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
