"""Pair: one photograph and the file that holds its labels. A pair source lists the pairs of a split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gss.labels import LabelSpace


class Pair(NamedTuple):
    """One photograph, its label file, and the name under which results of it are reported.

    `labels` is None where they are withheld, as for a benchmark's test split: such photographs can be segmented, not
    scored. `condition` names the part of a split that is scored by itself too (fog, night); "" where there are none.
    `label_space` translates this label file where its ids are not those of the data set's own table: the same classes
    under other file ids. None: the data set's own.
    """

    image: Path
    labels: Path | None
    name: str
    condition: str = ""
    label_space: LabelSpace | None = None


PairSource = Callable[[], list[Pair]]
"""Lists one split when called, and not before: a split nobody asks for may be absent from the disk."""
