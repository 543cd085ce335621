"""ShardNote: what lies in one shard, and what it was made from; a JSON file beside the shard, written after it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gss.data.pairs import Pair
from gss.data.reading import labels_of
from gss.labels import LabelSpace

FORMAT = 1
"""Of shards: per pair (H, W, 3) uint8 RGB, then (H, W) uint8 train ids, nothing in between."""


@dataclass(frozen=True)
class Stamp:
    """How a source file is known again: by size and time at a glance, by its sha256 for certain."""

    size: int
    mtime_ns: int
    sha256: str

    def seems_same(self, path: Path) -> bool:
        """Tell whether the file has the size and the time that it had; reads nothing."""
        status = path.stat()
        return (status.st_size, status.st_mtime_ns) == (self.size, self.mtime_ns)


@dataclass(frozen=True)
class Entry:
    """One pair: its name, the (H, W) of its photograph, where its bytes begin in the shard, and its source files."""

    name: str
    height: int
    width: int
    offset: int
    image: Stamp
    labels: Stamp


@dataclass(frozen=True)
class ShardNote:
    """What a shard holds.

    Args:
        settings: what decides the bytes besides the files; see `cache_settings`.
        num_bytes: length of the shard.
        sha256: of the shard.
        entries: its pairs in order.
    """

    settings: dict[str, Any]
    num_bytes: int
    sha256: str
    entries: tuple[Entry, ...]

    def names(self) -> list[str]:
        """Name the pairs in order."""
        return [entry.name for entry in self.entries]

    def to_json(self) -> bytes:
        """Write the note as JSON."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def read(cls, path: Path) -> ShardNote:
        """Read a note.

        Raises:
            ValueError: the file is missing, or not such a note.
        """
        try:
            plain = json.loads(path.read_text())
            entries = tuple(
                Entry(**{**entry, "image": Stamp(**entry["image"]), "labels": Stamp(**entry["labels"])})
                for entry in plain.pop("entries")
            )
            return cls(**plain, entries=entries)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"'{path}' is not the note of a shard ({error})") from error


def cache_settings(label_space: LabelSpace) -> dict[str, Any]:
    """Give what decides the bytes of a shard besides the files: the form, and the table from file ids to train ids."""
    return {"format": FORMAT, "raw_to_train": [list(row) for row in sorted(label_space.raw_to_train.items())]}


def settings_difference(cached: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """Say in words what differs first between the settings of a cache and those of the data set; None if nothing."""
    if cached.get("format") != wanted["format"]:
        return f"it has format {cached.get('format')}, and this version reads format {wanted['format']}"
    cached_ids, wanted_ids = dict(cached["raw_to_train"]), dict(wanted["raw_to_train"])
    for raw in sorted(cached_ids.keys() | wanted_ids.keys()):
        if cached_ids.get(raw) != wanted_ids.get(raw):
            ways = [f"to {ids[raw]}" if raw in ids else "nowhere" for ids in (cached_ids, wanted_ids)]
            return f"its table takes file id {raw} {ways[0]}, that of data.label_space {ways[1]}"
    return None


def files_difference(entries: Sequence[Entry], pairs: Sequence[Pair]) -> str | None:
    """Say in words which pair or file is not the one that was cached, by name, size and time; None if all are."""
    if len(entries) != len(pairs):
        return f"it holds {len(entries)} pairs, and the split has {len(pairs)}"
    for entry, pair in zip(entries, pairs, strict=True):
        if entry.name != pair.name:
            return f"it holds '{entry.name}' where the split has '{pair.name}'"
        for stamp, path in ((entry.image, pair.image), (entry.labels, labels_of(pair))):
            if not stamp.seems_same(path):
                return f"'{path}' was changed since: its size or time is another"
    return None


def stamp_of(path: Path) -> Stamp:
    """Read a file once for its stamp."""
    status = path.stat()
    with path.open("rb") as file:
        return Stamp(status.st_size, status.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest())


def shard_files(folder: Path, number: int) -> tuple[Path, Path]:
    """Name a shard and its note."""
    return folder / f"{number:05d}.bin", folder / f"{number:05d}.json"


def put_in_place(temporary: Path, target: Path) -> None:
    """Give a finished file, flushed to the disk, its final name."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, target)
