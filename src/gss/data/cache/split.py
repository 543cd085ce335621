"""CachedSplit: the images and labels of a cached split, as views of the shards; nothing is copied or decoded."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gss.data.cache.note import ShardNote, listed_once, shard_files
from gss.data.pairs import Pair
from gss.labels import LabelSpace

log = logging.getLogger(__name__)
_MAPPED = 256  # shards at a time: each holds a file open, of which many systems allow 1024


class CachedSplit:
    """Images and labels by index. A cut of a view reads from the disk what the cut covers and no more.

    Where things lie is kept in a few arrays, not in objects per pair, which worker processes would copy by looking at
    them. Shards are mapped at first use, by each process for itself, so a data set with a cache can be pickled.

    Args:
        shards: files of bytes.
        notes: what lies in each.
        order: which pair of the shards is at each index; a pair that is listed several times lies there once.
    """

    def __init__(self, shards: Sequence[Path], notes: Sequence[ShardNote], order: Sequence[int]) -> None:
        """Note where every pair lies; no shard is opened yet."""
        entries = [(shard, entry) for shard, note in enumerate(notes) for entry in note.entries]
        self._files = list(shards)
        self._order = np.array(order, np.int32)
        self._shards = np.array([shard for shard, _ in entries], np.int32)
        self._offsets = np.array([entry.offset for _, entry in entries], np.int64)
        self._sizes = np.array([(entry.height, entry.width) for _, entry in entries], np.int32)
        self._maps: dict[int, NDArray[np.uint8]] = {}

    @classmethod
    def open(cls, folder: Path, pairs: Sequence[Pair], label_space: LabelSpace, remedy: str) -> CachedSplit:
        """Open the cache of a split and compare it with the split, by settings, names, sizes and times.

        Args:
            folder: of the split's shards.
            pairs: of the split as it is now.
            label_space: the classes as they are now.
            remedy: the command that builds the cache, for messages.

        Raises:
            ValueError: the cache is not whole, or of other settings or files; says which and what mends it.
        """
        shards: list[Path] = []
        notes: list[ShardNote] = []
        todo, order = listed_once(pairs)
        while todo:
            shard, noted = shard_files(folder, len(notes))
            try:
                note = _checked_note(shard, noted, todo, label_space)
            except ValueError as fault:
                raise ValueError(
                    f"the cache '{folder}' {fault}; run `{remedy}` with the data words of this run"
                ) from fault
            notes.append(note)
            shards.append(shard)
            todo = todo[len(note.entries) :]
        return cls(shards, notes, order)

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self._order)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Give views of an image, (H, W, 3) uint8 RGB, and its labels, (H, W) uint8 in [0, K) or 255."""
        place = self._order[index]
        raw, start = self._raw(int(self._shards[place])), int(self._offsets[place])
        height, width = map(int, self._sizes[place])
        middle, end = start + 3 * height * width, start + 4 * height * width
        return raw[start:middle].reshape(height, width, 3), raw[middle:end].reshape(height, width)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the mappings behind: another process makes its own."""
        return {**self.__dict__, "_maps": {}}

    def _raw(self, shard: int) -> NDArray[np.uint8]:
        """Map a shard, (N,) uint8, read-only."""
        if shard not in self._maps:
            while len(self._maps) >= _MAPPED:
                del self._maps[next(iter(self._maps))]  # the oldest; views of it that are in use stay
            self._maps[shard] = np.memmap(self._files[shard], np.uint8, mode="r").view(np.ndarray)
        return self._maps[shard]


def open_cached(
    cache: str | Path | None, split: str, pairs: Sequence[Pair], label_space: LabelSpace, name: str
) -> CachedSplit | None:
    """Open a split of `data.cache`; None where there is no cache, or where it was built without this split.

    Args:
        cache: folder of the whole cache, or None.
        split: name of the split.
        pairs: of the split as it is now.
        label_space: the classes as they are now.
        name: of the data set, for the command in messages.

    Raises:
        ValueError: no split is cached there, or the cache of this one is not whole, or of other settings or files.
    """
    if cache is None:
        return None
    folder = Path(cache)
    remedy = f"python -m gss.data cache data={name} output={folder}"
    if not any(folder.glob("*/*.json")):
        raise ValueError(
            f"data.cache={folder} holds no cache; run `{remedy}` with the data words of this run, or set "
            "data.cache=null"
        )
    if not (folder / split).is_dir():
        log.info("data.cache=%s has no split '%s', which is read from its files", folder, split)
        return None
    return CachedSplit.open(folder / split, pairs, label_space, f"{remedy} split={split}")


def _checked_note(shard: Path, noted: Path, todo: Sequence[Pair], label_space: LabelSpace) -> ShardNote:
    """Read the note of the next shard and compare it with the pairs that should lie there.

    Raises:
        ValueError: what is wrong, as the end of a sentence about the cache.
    """
    if not noted.is_file():
        raise ValueError(f"is not whole: {noted.name} is missing")
    try:
        note = ShardNote.read(noted)
        whole = len(note.entries) > 0 and shard.stat().st_size == note.num_bytes
    except (ValueError, OSError) as error:
        raise ValueError(f"is damaged: {error}") from error
    if not whole:
        raise ValueError(f"is damaged: {shard.name} is cut off")
    pairs = todo[: len(note.entries)]
    if difference := note.difference(pairs, label_space):
        raise ValueError(f"does not fit the data: {difference}")
    if changed := note.changed_file(pairs):
        raise ValueError(f"does not fit the data: '{changed}' was changed since, its size or time is another")
    return note
