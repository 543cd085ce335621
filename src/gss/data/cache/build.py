"""Building a cache: shard after shard, each whole or absent, so that an interrupted build goes on where it stopped."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gss.atomic_files import written_together, written_whole
from gss.data.cache.note import FORMAT, Entry, ShardNote, Table, shard_files, stamp_of, table_of
from gss.data.pairs import Pair
from gss.data.reading import labels_of, pixel_count, read_image, read_pair_labels, require_same_size
from gss.data.verify import num_threads
from gss.display.progress import track
from gss.labels import LabelSpace

Decoded = tuple[Entry, NDArray[np.uint8], NDArray[np.uint8]]
GB = 1e9


@dataclass(frozen=True)
class SplitCache:
    """Where a split is cached, from what.

    Args:
        folder: of the split's shards.
        split: its name, for messages.
        pairs: its files, each once.
        label_space: translates file ids to train ids.
        pairs_per_shard: how many pairs a shard holds; the last may hold fewer.
    """

    folder: Path
    split: str
    pairs: Sequence[Pair]
    label_space: LabelSpace
    pairs_per_shard: int

    @property
    def num_shards(self) -> int:
        """Count the shards of a whole cache."""
        return -(-len(self.pairs) // self.pairs_per_shard)

    def pairs_of(self, shard: int) -> Sequence[Pair]:
        """Give the pairs of one shard."""
        return self.pairs[shard * self.pairs_per_shard : (shard + 1) * self.pairs_per_shard]

    def build(self, full: bool = False) -> int:
        """Write the shards that are missing or not of these files and settings; gives how many were written.

        Args:
            full: compare the sha256 of every source file and every shard, rather than sizes and times.

        Raises:
            ValueError: a file of the data set is at fault, the disk is or would be full, or another build is at work;
                finished shards stay.
        """
        with _building(self):
            for leftover in self.folder.glob(".*.tmp"):
                leftover.unlink()
            shards = track(range(self.num_shards), f"checking the cache of {self.split}", unit="shards")
            todo = [shard for shard in shards if not self._is_kept(shard, full)]
            self._check_space(todo)
            for shard in track(todo, f"caching {self.split}", unit="shards"):
                self._write_shard(shard)
            for path in self.folder.glob("[0-9]*.*"):  # what an earlier, longer listing left
                if path.suffix in (".bin", ".json") and int(path.stem) >= self.num_shards:
                    path.unlink()
        return len(todo)

    def _is_kept(self, shard: int, full: bool) -> bool:
        """Tell whether a shard is there and of these files; where only their times are others, the note is mended."""
        target, noted = shard_files(self.folder, shard)
        pairs = self.pairs_of(shard)
        try:
            note = ShardNote.read(noted)
            whole = target.stat().st_size == note.num_bytes
        except (ValueError, OSError):
            return False
        if not whole or note.difference(pairs, self.label_space):
            return False
        if not full and note.changed_file(pairs) is None:
            return True
        entries = tuple(
            replace(entry, image=stamp_of(pair.image), labels=stamp_of(labels_of(pair)))
            for entry, pair in zip(note.entries, pairs, strict=True)
        )
        if any(map(_differs, entries, note.entries)) or (full and stamp_of(target).sha256 != note.sha256):
            return False
        with written_whole(noted) as new:
            replace(note, entries=entries).write(new)
        return True

    def _check_space(self, todo: Sequence[int]) -> None:
        """Refuse to begin what the disk has no room for; what stale shards give back is counted."""
        needed = sum(4 * pixel_count(pair.image) for shard in todo for pair in self.pairs_of(shard))
        stale = (shard_files(self.folder, shard)[0] for shard in todo)
        free = shutil.disk_usage(self.folder).free + sum(path.stat().st_size for path in stale if path.exists())
        if needed > free:
            raise ValueError(
                f"caching the split '{self.split}' takes {needed / GB:.3g} GB, but '{self.folder}' has room for "
                f"{free / GB:.3g} GB; make room, or set output=FOLDER on another disk"
            )

    def _write_shard(self, shard: int) -> None:
        """Decode the pairs of a shard and write it with its note, without which there is no shard."""
        pairs, digest, offset = self.pairs_of(shard), hashlib.sha256(), 0
        entries: list[Entry] = []
        tables: list[Table] = []
        with written_together(*shard_files(self.folder, shard)) as (new, noted):
            with new.open("wb") as file:
                for pair, (entry, image, labels) in zip(pairs, self._decoded(pairs), strict=True):
                    for pixels in (image, labels):
                        content = pixels.reshape(-1).data
                        file.write(content)
                        digest.update(content)
                    if (table := table_of(pair, self.label_space)) not in tables:
                        tables.append(table)
                    entries.append(replace(entry, offset=offset, table=tables.index(table)))
                    offset += image.nbytes + labels.nbytes
            ShardNote(FORMAT, offset, digest.hexdigest(), tuple(tables), tuple(entries)).write(noted)

    def _decoded(self, pairs: Sequence[Pair]) -> Iterator[Decoded]:
        """Decode pairs in order, a few ahead in threads: no more than those are in memory."""
        waiting: deque[Future[Decoded]] = deque()
        with ThreadPoolExecutor(num_threads()) as pool:
            for pair in pairs:
                waiting.append(pool.submit(self._decode, pair))
                if len(waiting) > num_threads():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _decode(self, pair: Pair) -> Decoded:
        """Read a pair: its entry, place and table still open, (H, W, 3) uint8 RGB and (H, W) uint8 train ids."""
        stamps = stamp_of(pair.image), stamp_of(labels_of(pair))
        image, labels = read_image(pair.image), read_pair_labels(pair, self.label_space)
        height, width = image.shape[:2]
        require_same_size(pair, (height, width), (labels.shape[0], labels.shape[1]))
        entry = Entry(pair.name, height, width, 0, *stamps, table=0)
        return entry, np.ascontiguousarray(image), np.ascontiguousarray(labels)


def _differs(one: Entry, other: Entry) -> bool:
    return (one.image.sha256, one.labels.sha256) != (other.image.sha256, other.labels.sha256)


@contextmanager
def _building(cache: SplitCache) -> Iterator[None]:
    """Keep other builds out of the folder, and turn what the disk refuses into one sentence.

    The system lifts the lock when this process ends, however it does.
    """
    try:
        cache.folder.mkdir(parents=True, exist_ok=True)
        with (cache.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as busy:
                raise ValueError(
                    f"another process builds the cache in '{cache.folder}'; wait for it, or stop it"
                ) from busy
            yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise ValueError(f"cannot build the cache '{cache.folder}' ({error}); set output=FOLDER") from error
        whole = sum(shard_files(cache.folder, shard)[1].exists() for shard in range(cache.num_shards))
        raise ValueError(
            f"the disk of '{cache.folder}' is full: {whole} of {cache.num_shards} shards are whole and stay; make room "
            "and repeat the command, which goes on from there, or set output=FOLDER on another disk"
        ) from error
