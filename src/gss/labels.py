"""LabelSpace: what the classes of a data set are called, how they look, and which file ids stand for them."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

IGNORE = 255
"""The train id of pixels that take part in neither loss nor metric."""

_UNKNOWN = 254  # marks, inside the look-up table only, a file id that the data set does not declare


@dataclass(frozen=True)
class LabelSpace:
    """The classes of a data set: names, display colours, and the table from file ids to train ids.

    Files store whatever ids their makers chose; the networks see train ids 0 .. K-1 and 255 = ignore. The
    table is explicit: an id that it does not list is a mistake in the data, never silently a class.

    Args:
        names: K class names in the order of the train ids.
        colours: K display colours (red, green, blue), each 0 .. 255; the maskige palette is another matter.
        raw_to_train: every file id (0 .. 255) that may occur, with its train id or 255.

    Raises:
        ValueError: names are empty or repeated, colours do not match them, or the table leaves its range.
    """

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    raw_to_train: Mapping[int, int]

    def __post_init__(self) -> None:
        """Check names, colours and table against each other."""
        number = len(self.names)
        if not 1 <= number < _UNKNOWN:
            raise ValueError(f"a class list needs 1 to {_UNKNOWN - 1} names, got {number}; mend data.label_space.names")
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise ValueError(f"the class name '{repeated[0]}' occurs more than once; mend data.label_space.names")
        if len(self.colours) != number:
            raise ValueError(
                f"{number} classes need as many display colours, got {len(self.colours)}; mend data.label_space.colours"
            )
        for colour in self.colours:
            if any(not 0 <= channel <= 255 for channel in colour):
                raise ValueError(f"display colours lie in 0 to 255, got {colour}; mend data.label_space.colours")
        for raw, train in self.raw_to_train.items():
            if not 0 <= raw <= 255:
                raise ValueError(f"file ids lie in 0 to 255, got {raw}; mend data.label_space.ignore_ids")
            if not (0 <= train < number or train == IGNORE):
                raise ValueError(
                    f"file id {raw} maps to {train}, but train ids are 0 to {number - 1} or {IGNORE}; "
                    "mend the table raw_to_train"
                )

    def __hash__(self) -> int:
        """Hash by value; the table is a mapping, which the generated hash could not take."""
        return hash((self.names, self.colours, tuple(sorted(self.raw_to_train.items()))))

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.names)

    @classmethod
    def from_names(
        cls,
        names: Sequence[str],
        colours: Sequence[Sequence[int]] | None = None,
        ignore_ids: Iterable[int] = (IGNORE,),
    ) -> Self:
        """Describe a data set whose files already hold 0 .. K-1, plus some ids to ignore.

        Args:
            names: K class names; a class's position is both its file id and its train id.
            colours: K display colours, each 0 .. 255; None gives well separated ones.
            ignore_ids: file ids that mean "unlabelled"; 255 is always among them.

        Raises:
            ValueError: an ignored id is also a class's id, or the class list is not valid.
        """
        if isinstance(names, str):  # a string is a sequence too, and would become one class per letter
            raise ValueError(f"names must be a list, got the string '{names}'; mend data.label_space.names")
        ignored = {int(raw) for raw in ignore_ids} | {IGNORE}
        clash = sorted(raw for raw in ignored if 0 <= raw < len(names))
        if clash:
            raise ValueError(
                f"the id {clash[0]} is ignored but also stands for class '{names[clash[0]]}'; "
                "mend data.label_space.ignore_ids or data.label_space.names"
            )
        shown = default_colours(len(names)) if colours is None else _as_colours(colours)
        table = {raw: raw for raw in range(len(names))} | dict.fromkeys(sorted(ignored), IGNORE)
        return cls(names=tuple(str(name) for name in names), colours=shown, raw_to_train=table)

    def to_train_ids(self, raw: NDArray[np.uint8], source: str) -> NDArray[np.uint8]:
        """Translate the ids of one label file.

        Args:
            raw: (H, W) uint8 ids as stored in the file.
            source: the file's name, for the message.

        Returns:
            (H, W) uint8 train ids in [0, K) or 255.

        Raises:
            ValueError: the file holds an id that this data set does not declare.
        """
        train_ids = np.asarray(cv2.LUT(raw, self._table), dtype=np.uint8)  # five times as fast as indexing
        if (train_ids == _UNKNOWN).any():
            found = np.unique(raw[train_ids == _UNKNOWN]).tolist()
            raise ValueError(
                f"label file '{source}' holds the ids {brief_ids(found)}, which are not in the class list "
                f"(known: {brief_ids(sorted(self.raw_to_train))}); correct the file, or mend "
                "data.label_space.names or data.label_space.ignore_ids"
            )
        return train_ids

    def to_dict(self) -> dict[str, Any]:
        """Give plain containers that survive JSON; the inverse of `from_dict`."""
        return {
            "names": list(self.names),
            "colours": [list(colour) for colour in self.colours],
            "raw_to_train": [[raw, train] for raw, train in sorted(self.raw_to_train.items())],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Rebuild a LabelSpace from what `to_dict` gave, also after a trip through JSON."""
        return cls(
            names=tuple(plain["names"]),
            colours=_as_colours(plain["colours"]),
            raw_to_train={int(raw): int(train) for raw, train in plain["raw_to_train"]},
        )

    @cached_property
    def _table(self) -> NDArray[np.uint8]:
        """Train ids by file id, (256,) uint8: one indexing per file instead of one comparison per class.

        Entries are in [0, K), 255 = ignore, or 254 for an id that is not declared.
        """
        table = np.full(256, _UNKNOWN, dtype=np.uint8)
        for raw, train in self.raw_to_train.items():
            table[raw] = train
        return table


def default_colours(num_classes: int) -> tuple[tuple[int, int, int], ...]:
    """Give distinct display colours: golden-ratio steps round the hue circle, in three brightnesses."""
    golden, levels = 0.61803398875, (0.95, 0.7, 0.45)
    colours = []
    for k in range(num_classes):
        channels = colorsys.hsv_to_rgb((k * golden) % 1.0, 0.75 if k % 2 else 0.55, levels[k % len(levels)])
        colours.append(tuple(round(255 * channel) for channel in channels))
    return _as_colours(colours)


def _as_colours(colours: Sequence[Sequence[int]]) -> tuple[tuple[int, int, int], ...]:
    """Turn lists (from YAML or JSON) into tuples, refusing what is not three numbers."""
    for colour in colours:
        if len(colour) != 3:
            raise ValueError(f"a colour needs 3 numbers, got {list(colour)}; mend data.label_space.colours")
    return tuple((int(red), int(green), int(blue)) for red, green, blue in colours)


def check_same_classes(source: str, known: Sequence[str], data: str, names: Sequence[str]) -> None:
    """Refuses data of other classes, or of another order of them, than a network or an artefact was made for.

    Args:
        source: what the message calls the latter.
        known: its class names.
        data: what the message calls the data.
        names: their class names.

    Raises:
        ValueError: with how many classes both have, and the first that differs.
    """
    if list(known) != list(names):
        raise ValueError(
            f"{source} knows {len(known)} classes and {data} has {len(names)}, but they must be the same: "
            f"{first_difference(known, names)}; give data of the classes that it was trained on"
        )


def first_difference(former: Sequence[str], latter: Sequence[str]) -> str:
    """Says which class is the first that two different lists of names disagree on."""
    pairs = zip_longest(former, latter)
    place, pair = next((place, pair) for place, pair in enumerate(pairs) if pair[0] != pair[1])
    here, there = ("missing" if name is None else repr(name) for name in pair)
    return f"class {place} is {here} in the former and {there} in the latter"


def brief_ids(ids: Sequence[int], limit: int = 12) -> str:
    """Write a sorted list of ids compactly, runs as `0-33`, at most `limit` runs."""
    runs: list[list[int]] = []
    for value in ids:
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    shown = [str(low) if low == high else f"{low}-{high}" for low, high in runs[:limit]]
    return ", ".join(shown) + (", ..." if len(runs) > limit else "")
