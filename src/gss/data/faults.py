"""What can be wrong with the files of a data set, each kind with its remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gss.data.pairs import Pair


class Kind(StrEnum):
    """The kinds of faults; the value says in words what is counted."""

    LISTING = "splits that cannot be listed"
    LINE = "lines of a file list that name no file to read"
    NO_LABELS = "photographs without labels"
    NO_PHOTOGRAPH = "labels without a photograph"
    OUTSIDE = "files outside the data set's folder"
    PHOTOGRAPH = "photographs that cannot be read"
    LABELS = "label files that cannot be read"
    IDS = "label files with undeclared ids"
    SIZE = "labels of another size than their photograph"


REMEDIES = {
    Kind.LISTING: "what the sentence says; nothing else of the split was looked into",
    Kind.LINE: "correct these lines, or put the files where they say, inside data.root",
    Kind.NO_LABELS: "put each label file where it was expected, or move the photograph out of the split's folder",
    Kind.NO_PHOTOGRAPH: "put the photograph back, or move the label file out of the split's folder",
    Kind.OUTSIDE: "copy the file into data.root; what a link or `..` leads to outside of it is never read",
    Kind.PHOTOGRAPH: "unpack or copy these files again from where they came; move out of the split what stays broken",
    Kind.LABELS: "unpack or copy these files again; own label files are PNGs with one upright channel of 8-bit ids",
    Kind.IDS: "give the ids a meaning in the label space of conf/data, or replace the files",
    Kind.SIZE: (
        "save the labels at their photograph's size, by nearest neighbour; where height and width are exchanged, the "
        "photograph's EXIF orientation turns it upright, so turn its labels too"
    ),
}
"""What to do about a kind of fault, whatever the data set."""


@dataclass(frozen=True)
class Fault:
    """One fault: its kind, the file that shows it (None: no single one), and the sentence a training would end with."""

    kind: Kind
    path: Path | None
    message: str


class NotThere(ValueError):
    """Nothing of a split is on the disk, as with a split that nobody downloaded."""


class FaultyListing(ValueError):
    """A split of which something is missing or does not belong; a training stops here, and a survey goes on.

    Args:
        message: the sentence for users.
        pairs: all that were found, the faulty ones too.
        faults: every one that was found.
    """

    def __init__(self, message: str, pairs: Iterable[Pair], faults: Iterable[Fault]) -> None:
        super().__init__(message)
        self.pairs = tuple(pairs)
        self.faults = tuple(faults)
