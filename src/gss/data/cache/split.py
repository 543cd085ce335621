"""CachedSplit: the photographs and labels of a cached split, as views of the shards; nothing is copied or decoded."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gss.data.cache.note import ShardNote, cache_settings, files_difference, settings_difference, shard_files
from gss.data.pairs import Pair
from gss.labels import LabelSpace

log = logging.getLogger(__name__)


class CachedSplit:
    """Photographs and labels by index. A cut of a view reads from the disk what the cut covers and no more.

    Where things lie is kept in four arrays, not in objects per pair, which worker processes would copy by looking at
    them. Shards are mapped at first use, by each process for itself, so a data set with a cache can be pickled.

    Args:
        shards: files of bytes.
        notes: what lies in each.
    """

    def __init__(self, shards: Sequence[Path], notes: Sequence[ShardNote]) -> None:
        """Note where every pair lies; no shard is opened yet."""
        entries = [(shard, entry) for shard, note in enumerate(notes) for entry in note.entries]
        self._files = list(shards)
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
        count = 0
        while count < len(pairs) or not notes:
            shard, noted = shard_files(folder, len(notes))
            if not noted.is_file():
                raise ValueError(f"the cache '{folder}' is not whole, {noted.name} is missing; run `{remedy}`")
            notes.append(_read_note(noted, remedy))
            shards.append(shard)
            count += len(notes[-1].entries)
            if not shard.is_file() or shard.stat().st_size != notes[-1].num_bytes:
                raise ValueError(f"the cache '{folder}' is damaged: {shard.name} is missing or cut off; run `{remedy}`")
        wanted = cache_settings(label_space)
        differences = (settings_difference(note.settings, wanted) for note in notes)
        entries = [entry for note in notes for entry in note.entries]
        difference = next(filter(None, differences), None) or files_difference(entries, pairs)
        if difference:
            raise ValueError(f"the cache '{folder}' does not fit the data: {difference}; run `{remedy}`")
        return cls(shards, notes)

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self._shards)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Give views of a photograph, (H, W, 3) uint8 RGB, and its labels, (H, W) uint8 in [0, K) or 255."""
        raw, start = self._raw(int(self._shards[index])), int(self._offsets[index])
        height, width = map(int, self._sizes[index])
        middle, end = start + 3 * height * width, start + 4 * height * width
        return raw[start:middle].reshape(height, width, 3), raw[middle:end].reshape(height, width)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the mappings behind: another process makes its own."""
        return {**self.__dict__, "_maps": {}}

    def _raw(self, shard: int) -> NDArray[np.uint8]:
        """Map a shard, (N,) uint8, read-only."""
        if shard not in self._maps:
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
        raise ValueError(f"data.cache={folder} holds no cache; run `{remedy}`, or set data.cache=null")
    if not (folder / split).is_dir():
        log.info("data.cache=%s has no split '%s', which is read from its files", folder, split)
        return None
    return CachedSplit.open(folder / split, pairs, label_space, remedy)


def _read_note(path: Path, remedy: str) -> ShardNote:
    try:
        return ShardNote.read(path)
    except ValueError as error:
        raise ValueError(f"{error}; run `{remedy}`") from error
