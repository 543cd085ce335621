"""ShardNote: what lies in one shard, and what it was made from; a JSON file beside the shard, written after it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path

from gss.data.pairs import Pair
from gss.data.reading import labels_of
from gss.labels import LabelSpace

FORMAT = 1
"""Of shards: per pair (H, W, 3) uint8 RGB, then (H, W) uint8 train ids, nothing in between."""

Table = dict[int, int]


@dataclass(frozen=True)
class Stamp:
    """How a source file is known again: by size and time at a glance, by its sha256 for certain."""

    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class Entry:
    """One pair: its name, the (H, W) of its image, where its bytes begin in the shard, and its source files."""

    name: str
    height: int
    width: int
    offset: int
    image: Stamp
    labels: Stamp
    table: int
    """Which of the note's tables took its file ids to train ids."""


@dataclass(frozen=True)
class ShardNote:
    """What a shard holds.

    Args:
        format: how it is laid out; see `FORMAT`.
        num_bytes: length of the shard.
        sha256: of the shard.
        tables: from file ids to train ids, each once.
        entries: its pairs in order.
    """

    format: int
    num_bytes: int
    sha256: str
    tables: tuple[Table, ...]
    entries: tuple[Entry, ...]

    def difference(self, pairs: Sequence[Pair], label_space: LabelSpace) -> str | None:
        """Say in words what the shard was made for other than these pairs and classes; None if for them."""
        if self.format != FORMAT:
            return f"it has format {self.format}, and this version reads format {FORMAT}"
        for entry, pair in zip_longest(self.entries, pairs):
            if entry is None or pair is None or entry.name != pair.name:
                held, listed = (f"'{one.name}'" if one else "nothing" for one in (entry, pair))
                return f"it holds {held} where the split has {listed}"
            wanted = table_of(pair, label_space)
            if (cached := self.tables[entry.table]) != wanted:
                raw = min(raw for raw in cached.keys() | wanted.keys() if cached.get(raw) != wanted.get(raw))
                ways = [f"to {ids[raw]}" if raw in ids else "nowhere" for ids in (cached, wanted)]
                return f"its table takes file id {raw} {ways[0]}, that of data.label_space {ways[1]}"
        return None

    def changed_file(self, pairs: Sequence[Pair]) -> Path | None:
        """Give the first source file whose size or time is another; None if all seem the same. No file is read."""
        for entry, pair in zip(self.entries, pairs, strict=True):
            for stamp, path in ((entry.image, pair.image), (entry.labels, labels_of(pair))):
                status = path.stat()
                if (status.st_size, status.st_mtime_ns) != (stamp.size, stamp.mtime_ns):
                    return path
        return None

    def write(self, path: Path) -> None:
        """Write the note."""
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> ShardNote:
        """Read a note.

        Raises:
            ValueError: the file is missing, or not such a note.
        """
        try:
            plain = json.loads(path.read_text())
            tables = tuple({int(raw): train for raw, train in table.items()} for table in plain.pop("tables"))
            entries = tuple(
                Entry(**{**entry, "image": Stamp(**entry["image"]), "labels": Stamp(**entry["labels"])})
                for entry in plain.pop("entries")
            )
            return cls(**plain, tables=tables, entries=entries)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"'{path}' is not the note of a shard ({error})") from error


def table_of(pair: Pair, label_space: LabelSpace) -> Table:
    """Give the table that translates the labels of a pair: its own, or that of its data set."""
    return dict((pair.label_space or label_space).raw_to_train)


def listed_once(pairs: Iterable[Pair]) -> tuple[list[Pair], list[int]]:
    """Keep each pair once, as data sets that are shown more often list theirs again; and say which is at each place.

    The same files read by another table are another pair.
    """
    places: dict[tuple[Path, Path | None, int], int] = {}
    once: list[Pair] = []
    order: list[int] = []
    for pair in pairs:
        order.append(places.setdefault((pair.image, pair.labels, id(pair.label_space)), len(once)))
        if order[-1] == len(once):
            once.append(pair)
    return once, order


def stamp_of(path: Path) -> Stamp:
    """Read a file once for its stamp."""
    status = path.stat()
    with path.open("rb") as file:
        return Stamp(status.st_size, status.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest())


def shard_files(folder: Path, number: int) -> tuple[Path, Path]:
    """Name a shard and its note."""
    return folder / f"{number:05d}.bin", folder / f"{number:05d}.json"
