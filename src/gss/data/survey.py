"""What a split holds, all of it: how many files, how large, which ids in how many pixels, and every fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gss.data.faults import Fault
from gss.data.listing import list_with_faults
from gss.data.pairs import Pair, PairSource
from gss.data.progress import shown
from gss.data.verify import inspect_pair, num_threads
from gss.labels import IGNORE, LabelSpace


def _no_pixels() -> NDArray[np.int64]:
    return np.zeros(256, np.int64)


@dataclass
class Survey:
    """What was found in one split.

    Args:
        label_space: the classes that its files are read with.
        photographs: number of photographs by condition; the condition is "" where a split has no parts.
        labels: number of label files by condition.
        sizes: number of photographs by upright (H, W); those that cannot be read are left out.
        pixels: (256,) int64, pixels by id as stored in the label files; those that cannot be read are left out.
        faults: in the order of the listing, those of the listing first.
    """

    label_space: LabelSpace
    photographs: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    pixels: NDArray[np.int64] = field(default_factory=_no_pixels)
    faults: list[Fault] = field(default_factory=list)

    @property
    def undeclared(self) -> list[int]:
        """The ids that occur and stand for nothing, in order."""
        return [raw for raw in np.flatnonzero(self.pixels).tolist() if raw not in self.label_space.raw_to_train]

    @property
    def class_shares(self) -> dict[str, float]:
        """Each class's share of the pixels that show a class, in [0, 1] and 1 in all; 0 each if there is none."""
        counts = {name: 0 for name in self.label_space.names}
        for raw, train in self.label_space.raw_to_train.items():
            if train != IGNORE:
                counts[self.label_space.names[train]] += int(self.pixels[raw])
        whole = sum(counts.values()) or 1
        return {name: count / whole for name, count in counts.items()}

    @property
    def ignored_share(self) -> float:
        """The ignored share of all pixels, in [0, 1]."""
        return self._share_of_all([raw for raw, train in self.label_space.raw_to_train.items() if train == IGNORE])

    @property
    def undeclared_share(self) -> float:
        """The share of all pixels whose ids stand for nothing, in [0, 1]."""
        return self._share_of_all(self.undeclared)

    def _share_of_all(self, ids: Sequence[int]) -> float:
        return float(self.pixels[list(ids)].sum() / max(1, self.pixels.sum()))

    def to_dict(self) -> dict[str, Any]:
        """Give all of it in plain containers for JSON."""
        whole = max(1, int(self.pixels.sum()))
        found = [(raw, int(self.pixels[raw])) for raw in np.flatnonzero(self.pixels).tolist()]
        return {
            "photographs": self.photographs.total(),
            "labels": self.labels.total(),
            "conditions": {
                name: {"photographs": count, "labels": self.labels[name]}
                for name, count in sorted(self.photographs.items())
                if name
            },
            "sizes": [{"height": h, "width": w, "photographs": n} for (h, w), n in self.sizes.most_common()],
            "ids": [{"id": raw, "stands_for": self.meaning(raw), "pixels": n, "share": n / whole} for raw, n in found],
            "class_shares": self.class_shares,
            "ignored_share": self.ignored_share,
            "faults": [
                {"kind": str(fault.kind), "file": str(fault.path), "message": fault.message} for fault in self.faults
            ],
        }

    def meaning(self, raw: int) -> str | None:
        """Say which class an id of the files stands for, or `ignored`; None if it is not declared."""
        train = self.label_space.raw_to_train.get(raw)
        return None if train is None else "ignored" if train == IGNORE else self.label_space.names[train]


def survey_split(source: PairSource, label_space: LabelSpace, title: str) -> Survey:
    """Look into every file of a split.

    Args:
        source: lists the split.
        label_space: the classes.
        title: of the split, for the progress bar.

    Raises:
        ValueError: the split is not there at all.
    """
    pairs, faults = list_with_faults(source)
    found = Survey(label_space, faults=faults)
    with ThreadPoolExecutor(max_workers=num_threads()) as pool:
        looks = pool.map(partial(_look, label_space=label_space), pairs)
        for pair, (size, pixels, wrong) in shown(zip(pairs, looks, strict=True), f"reading {title}", len(pairs)):
            found.photographs[pair.condition] += 1
            found.labels[pair.condition] += pair.labels is not None
            found.sizes.update([size] if size else [])
            found.pixels += pixels
            found.faults += wrong
    return found


def _look(pair: Pair, label_space: LabelSpace) -> tuple[tuple[int, int] | None, NDArray[np.int64], tuple[Fault, ...]]:
    """Inspect one pair and keep of its labels only how many pixels have which id, (256,) int64."""
    seen = inspect_pair(pair, label_space)
    pixels = _no_pixels() if seen.ids is None else np.bincount(seen.ids.ravel(), minlength=256)
    return seen.size, pixels, seen.faults
