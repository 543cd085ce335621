"""Check the files of a split: before training starts, so that no run dies in its third hour, and for a survey."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gss.data.pairs import Fault, Kind, Pair
from gss.data.reading import image_size, labels_of, read_ids, require_same_size
from gss.display.progress import track
from gss.labels import LabelSpace

T = TypeVar("T")


@dataclass(frozen=True)
class Inspection:
    """What one pair's files hold.

    Args:
        size: (H, W) of the image, upright; None if it cannot be read.
        ids: (H, W) uint8 as stored in the label file; None if it cannot be read, or there is none.
        faults: all that is wrong; empty for a sound pair.
    """

    size: tuple[int, int] | None
    ids: NDArray[np.uint8] | None
    faults: tuple[Fault, ...]


def inspect_pair(pair: Pair, label_space: LabelSpace) -> Inspection:
    """Check that an image is whole, and its labels, if it has any, readable, declared and of the same size.

    Labels are decoded fully; of images only header and checksums (or the JPEG stream) are read.

    Args:
        pair: says which files, and which table translates the labels if it is not that of its data set.
        label_space: of the data set.
    """
    faults: list[Fault] = []
    size = _tried(partial(image_size, pair.image), Kind.IMAGE, pair.image, faults)
    if pair.labels is None:
        return Inspection(size, None, tuple(faults))
    ids = _tried(partial(read_ids, pair.labels), Kind.LABELS, pair.labels, faults)
    if ids is not None:
        own_space = pair.label_space or label_space
        _tried(partial(own_space.to_train_ids, ids, str(pair.labels)), Kind.IDS, pair.labels, faults)
        if size is not None:
            own = (ids.shape[0], ids.shape[1])
            _tried(partial(require_same_size, pair, size, own), Kind.SIZE, pair.labels, faults)
    return Inspection(size, ids, tuple(faults))


def verify_pairs(pairs: Sequence[Pair], label_space: LabelSpace) -> None:
    """Check every pair of a split, one that is listed several times once.

    Threads suffice: decoding releases the interpreter lock.

    Raises:
        ValueError: the first faulty pair in the order of the listing; one sentence that names the file.
    """
    with ThreadPoolExecutor(max_workers=num_threads()) as pool:
        once = {(pair.image, pair.labels): pair for pair in pairs}.values()
        checks = [pool.submit(verify_pair, pair, label_space) for pair in once]
        try:
            for check in track(checks, "checking images and labels", unit="pairs"):
                check.result()
        finally:
            pool.shutdown(cancel_futures=True)


def verify_pair(pair: Pair, label_space: LabelSpace) -> None:
    """Check one image and its labels.

    Raises:
        ValueError: the labels are withheld, a file is broken, the ids are not declared, or the sizes differ.
    """
    labels_of(pair)
    if faults := inspect_pair(pair, label_space).faults:
        raise ValueError(faults[0].message)


def num_threads(most: int = 16) -> int:
    """Give the number of reading threads: one per core that this process may use, at most `most`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(most, cores)


def _tried(action: Callable[[], T], kind: Kind, path: Path, faults: list[Fault]) -> T | None:
    """Do one check, and note its ValueError as a fault instead of passing it on."""
    try:
        return action()
    except ValueError as error:
        faults.append(Fault(kind, path, str(error)))
        return None
