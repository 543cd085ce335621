"""What a split holds, all of it: how many files, how large, which ids in how many pixels, and every fault."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from gss.data.pairs import Fault, Pair, PairSource, list_with_faults
from gss.data.verify import inspect_pair, num_threads
from gss.display.progress import track
from gss.labels import IGNORE, LabelSpace


@dataclass
class Survey:
    """What was found in one split.

    Args:
        label_space: the classes that its files are read with.
        images: number of images by condition; the condition is "" where a split has no parts.
        labels: number of label files by condition.
        sizes: number of images by upright (H, W); those that cannot be read are left out.
        pixels: number of pixels by id as stored in the label files, and the train id that it stands for, None if it
            stands for nothing; label files that cannot be read are left out.
        faults: in the order of the listing, those of the listing first.
    """

    label_space: LabelSpace
    images: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    pixels: Counter[tuple[int, int | None]] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)

    def ids(self, train: int | None) -> list[int]:
        """The ids in the files that stand for a train id, or (None) for nothing, in order."""
        return sorted(raw for raw, meaning in self.pixels if meaning == train)

    def share(self, train: int | None) -> float:
        """The share in all pixels of those that have a train id, or (None) none, in [0, 1]."""
        return self._count(train) / max(1, self.pixels.total())

    @property
    def class_shares(self) -> dict[str, float]:
        """Each class's share of the pixels that show a class, in [0, 1] and 1 in all; 0 each if there is none."""
        counts = {name: self._count(train) for train, name in enumerate(self.label_space.names)}
        whole = max(1, sum(counts.values()))
        return {name: count / whole for name, count in counts.items()}

    def _count(self, train: int | None) -> int:
        return sum(count for (_, meaning), count in self.pixels.items() if meaning == train)

    def to_dict(self) -> dict[str, Any]:
        """Give all of it in plain containers for JSON."""
        return {
            "photographs": self.images.total(),
            "labels": self.labels.total(),
            "conditions": {
                name: {"photographs": count, "labels": self.labels[name]}
                for name, count in sorted(self.images.items())
                if name
            },
            "sizes": [{"height": h, "width": w, "photographs": n} for (h, w), n in self.sizes.most_common()],
            "ids": [
                {"id": raw, "stands_for": self._name(train), "pixels": count, "share": count / self.pixels.total()}
                for (raw, train), count in sorted(self.pixels.items(), key=lambda item: item[0][0])
            ],
            "class_shares": self.class_shares,
            "ignored_share": self.share(IGNORE),
            "faults": [
                {"kind": str(fault.kind), "file": str(fault.path or ""), "message": fault.message}
                for fault in self.faults
            ],
        }

    def _name(self, train: int | None) -> str | None:
        """Name a class, or `ignored`; None where an id stands for nothing."""
        return None if train is None else "ignored" if train == IGNORE else self.label_space.names[train]


def survey_split(source: PairSource, label_space: LabelSpace, title: str) -> Survey:
    """Look into every file of a split.

    Args:
        source: lists the split.
        label_space: the classes.
        title: of the split, for the progress bar.

    Raises:
        NotThere: nothing of the split is on the disk.
    """
    pairs, faults = list_with_faults(source)
    found = Survey(label_space, faults=faults)
    with ThreadPoolExecutor(max_workers=num_threads()) as pool:
        looks = pool.map(partial(_look, label_space=label_space), pairs)
        for pair, (size, pixels, wrong) in track(
            zip(pairs, looks, strict=True), f"reading {title}", len(pairs), "pairs"
        ):
            found.images[pair.condition] += 1
            found.labels[pair.condition] += pair.labels is not None
            found.sizes.update([size] if size else [])
            found.pixels.update(pixels)
            found.faults += wrong
    return found


def _look(
    pair: Pair, label_space: LabelSpace
) -> tuple[tuple[int, int] | None, Counter[tuple[int, int | None]], tuple[Fault, ...]]:
    """Inspect one pair, and keep of its labels only how many pixels have which id."""
    seen = inspect_pair(pair, label_space)
    counts = [] if seen.ids is None else np.bincount(seen.ids.ravel(), minlength=256).tolist()
    own_space = pair.label_space or label_space
    pixels = {(raw, own_space.raw_to_train.get(raw)): count for raw, count in enumerate(counts) if count}
    return seen.size, Counter(pixels), seen.faults
