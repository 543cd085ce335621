"""Pair: one image and the file that holds its labels. Fault: one thing that is wrong with such files.

A pair source lists the pairs of a split. Where some are faulty, it raises a `FaultyListing` that holds all pairs and
all faults: a training stops there with one sentence, and a survey goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from gss.labels import LabelSpace


class Pair(NamedTuple):
    """One image, its label file, and the name under which results of it are reported.

    `labels` is None where they are withheld, as for a benchmark's test split: such images can be segmented, not
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


class Kind(StrEnum):
    """The kinds of faults; the value says in words what is counted."""

    LISTING = "splits that cannot be listed"
    LINE = "lines of a file list that name no file to read"
    NO_LABELS = "images without labels"
    NO_IMAGE = "labels without an image"
    OUTSIDE = "files outside the data set's folder"
    IMAGE = "images that cannot be read"
    LABELS = "label files that cannot be read"
    IDS = "label files with undeclared ids"
    SIZE = "labels of another size than their image"


REMEDIES = {
    Kind.LISTING: "what the sentence says; nothing else of the split was looked into",
    Kind.LINE: "correct these lines, or put the files where they say, inside data.root",
    Kind.NO_LABELS: "put each label file where it was expected, or move the image out of the split's folder",
    Kind.NO_IMAGE: "put the image back, or move the label file out of the split's folder",
    Kind.OUTSIDE: "copy the file into data.root; what a link or `..` leads to outside of it is never read",
    Kind.IMAGE: "unpack or copy these files again from where they came; move out of the split what stays broken",
    Kind.LABELS: "unpack or copy these files again; own label files are PNGs with one upright channel of 8-bit ids",
    Kind.IDS: "give the ids a meaning in the label space of conf/data, or replace the files",
    Kind.SIZE: (
        "save the labels at their image's size, by nearest neighbour; where height and width are exchanged, the "
        "image's EXIF orientation turns it upright, so turn its labels too"
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
    """A split of which something is missing or does not belong.

    Args:
        message: the sentence for users.
        pairs: all that were found, the faulty ones too.
        faults: every one that was found.
    """

    def __init__(self, message: str, pairs: Iterable[Pair], faults: Iterable[Fault]) -> None:
        super().__init__(message)
        self.pairs = tuple(pairs)
        self.faults = tuple(faults)


def changed(source: PairSource, change: Callable[[Pair], Pair]) -> PairSource:
    """Give a source that lists what another lists, each pair changed, also where the listing has faults."""

    def listed() -> list[Pair]:
        """List the changed pairs."""
        try:
            return [change(pair) for pair in source()]
        except FaultyListing as listing:
            raise FaultyListing(str(listing), map(change, listing.pairs), listing.faults) from listing

    return listed


def list_parts(parts: Iterable[PairSource]) -> list[Pair]:
    """List the parts of a split one after the other; what is wrong with one does not hide what is wrong with the next.

    Raises:
        NotThere: no part is on the disk.
        FaultyListing: something is wrong with a part, or one is missing among others.
    """
    pairs: list[Pair] = []
    faults: list[Fault] = []
    errors: list[ValueError] = []
    for part in parts:
        try:
            pairs += part()
        except ValueError as error:
            errors.append(error)
            found, wrong = _taken_apart(error)
            pairs, faults = [*pairs, *found], [*faults, *wrong]
    if errors and not pairs and all(isinstance(error, NotThere) for error in errors):
        raise errors[0]
    if errors:
        raise FaultyListing(str(errors[0]), pairs, faults) from errors[0]
    return pairs


def list_with_faults(source: PairSource) -> tuple[list[Pair], list[Fault]]:
    """List the images of a split, each once, and what is missing beside them.

    Returns:
        The pairs whose files can be looked into (without labels where these are missing), and the faults.

    Raises:
        NotThere: nothing of the split is on the disk.
    """
    faults: list[Fault] = []
    try:
        pairs = source()
    except NotThere:
        raise
    except ValueError as error:
        pairs, faults = _taken_apart(error)
    pairs = list({(pair.image, pair.labels): pair for pair in pairs}.values())
    faults += _labels_without_image(pairs)
    outside = {fault.path for fault in faults if fault.kind is Kind.OUTSIDE}
    unlabelled = {fault.path for fault in faults if fault.kind is Kind.NO_LABELS}
    readable = [pair for pair in pairs if not {pair.image, pair.labels} & outside]
    return [pair._replace(labels=None) if pair.image in unlabelled else pair for pair in readable], faults


def _taken_apart(error: ValueError) -> tuple[list[Pair], list[Fault]]:
    """Give the pairs and the faults of a listing that was refused."""
    if isinstance(error, FaultyListing):
        return list(error.pairs), list(error.faults)
    return [], [Fault(Kind.LISTING, None, str(error))]


def _labels_without_image(pairs: Sequence[Pair]) -> Iterator[Fault]:
    """Find label files beside those of the pairs that belong to no image, neither of the split nor of another.

    Where labels lie and how their names end is read off the pairs: a path is its folder, the pair's name, an ending.
    """

    def around(path: Path, pair: Pair) -> tuple[str, str] | None:
        """Split a path into the folder that a pair's name begins in, and the ending behind it; None without it."""
        before, found, behind = str(path).rpartition("/" + pair.name.removeprefix(f"{pair.condition}/"))
        return (f"{before}/", behind) if found and behind else None

    images = {parts for pair in pairs if (parts := around(pair.image, pair))}
    labels = {parts for pair in pairs if pair.labels and (parts := around(pair.labels, pair))}
    known = {pair.labels for pair in pairs}
    for folder, ending in sorted(labels):
        for path in sorted(set(Path(folder).rglob(f"[!.]*{ending}")) - known):
            name = path.relative_to(folder).as_posix().removesuffix(ending)
            if not any(Path(f"{place}{name}{other}").is_file() for place, other in images):
                message = f"label file '{path}' belongs to no image; add the image, or remove the label file"
                yield Fault(Kind.NO_IMAGE, path, message)
