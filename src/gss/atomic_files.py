"""Files that are whole or absent: bytes go to a file beside the target, which takes its name when the disk has them.

A crash, a full disk or a kill leaves the older file as it was. Lightning's and Python's own writers promise less: they
write in place, or copy from the temporary folder, and never ask the disk to finish.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Yields the path of a new file to be written, which replaces the target unless something is raised.

    Args:
        target: the file to write or replace; missing folders are made.
    """
    with written_together(target) as (new,):
        yield new


@contextmanager
def written_together(target: Path, *notes: Path) -> Iterator[tuple[Path, ...]]:
    """The same for a file and what is noted about it, such as its sha256: a note never stands beside another content.

    Args:
        target: the file.
        notes: files of the same folder; a kill between the exchanges leaves the file, old or new, without them.
    """
    targets = (target, *notes)
    new = tuple(path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp") for path in targets)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield new
        for path in new:
            _flush(path, os.O_RDWR)
        if notes:
            for note in notes:
                note.unlink(missing_ok=True)
            _flush_folder(target.parent)
        for path, final in zip(new, targets, strict=True):
            os.replace(path, final)
        _flush_folder(target.parent)
    finally:
        for path in new:
            path.unlink(missing_ok=True)


def write_whole(target: Path, content: bytes | str) -> None:
    """Writes a file of which the content is known, whole or not at all; missing folders are made."""
    with written_whole(target) as new:
        new.write_bytes(content if isinstance(content, bytes) else content.encode())


def write_json(target: Path, plain: Any) -> None:
    """Writes plain data as indented JSON, whole or not at all; missing folders are made."""
    write_whole(target, json.dumps(plain, indent=2) + "\n")


def _flush(path: Path, access: int) -> None:
    """Waits until the disk has what was written to a path."""
    handle = os.open(path, access)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_folder(folder: Path) -> None:
    """Makes renames durable, where the system can open folders (Windows cannot)."""
    if os.name != "nt":
        _flush(folder, os.O_RDONLY)
