"""Check every file of a split before training starts, so that no run dies in its third hour."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from gss.data.pairs import Pair
from gss.data.progress import shown
from gss.data.reading import image_size, read_pair_labels, require_same_size
from gss.labels import LabelSpace


def verify_pairs(pairs: Sequence[Pair], label_space: LabelSpace) -> None:
    """Check that each photograph is whole, and its labels readable, declared and of the same size.

    Labels are decoded fully; of photographs only header and checksums (or the JPEG stream) are read. Threads
    suffice: decoding releases the interpreter lock. A photograph that is listed several times is checked once.

    Raises:
        ValueError: the first faulty pair in the order of the listing; one sentence that names the file.
    """
    with ThreadPoolExecutor(max_workers=num_threads()) as pool:
        once = {(pair.image, pair.labels): pair for pair in pairs}.values()
        checks = [pool.submit(verify_pair, pair, label_space) for pair in once]
        try:
            for check in shown(checks, "checking photographs and labels", len(checks)):
                check.result()
        finally:
            pool.shutdown(cancel_futures=True)


def verify_pair(pair: Pair, label_space: LabelSpace) -> None:
    """Check one photograph and its labels.

    Raises:
        ValueError: a file is broken, the ids are not declared, or the sizes differ.
    """
    size = image_size(pair.image)
    labels = read_pair_labels(pair, label_space)
    require_same_size(pair, size, (labels.shape[0], labels.shape[1]))


def num_threads(most: int = 16) -> int:
    """Give the number of reading threads: one per core that this process may use, at most `most`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(most, cores)
