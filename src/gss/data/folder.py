"""FolderPairs: a split is a folder of images beside a folder of label PNGs with the same names.

A text file may list the images instead, one a line. A line that leads out of the data set is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gss.data.pairs import Fault, FaultyListing, Kind, NotThere, Pair


@dataclass(frozen=True)
class FolderPairs:
    """List the images under `root/images`, each with its label file under `root/labels`.

    The label file has the image's path below its folder, with `label_ending` in the place of the
    image's ending: `images/train/a/7.jpg` belongs to `labels/train/a/7.png`. Sub-folders are searched,
    the order is that of the sorted paths, and nothing outside `root` is ever read.

    A file list chooses images and gives their order: a path relative to `images` per line, and optionally, after a
    tab or a space, that of the label file relative to `labels`.

    Args:
        root: folder of the data set.
        images: folder of the images, relative to `root`.
        labels: folder of the label files, relative to `root`; None where they are withheld.
        image_endings: how names of images end (case does not matter); other files are left alone.
        label_ending: how names of label files end; of several endings, the first whose file is there counts.
        origin: how to get the data, said when they are not there.
        file_list: the list, relative to `root`; None takes all images.
        labelled_only: leave out images without a label file, as where only some were annotated.
    """

    root: str | Path
    images: str
    labels: str | None
    image_endings: Sequence[str] = (".jpg", ".jpeg", ".png")
    label_ending: str | Sequence[str] = ".png"
    origin: str = ""
    file_list: str | None = None
    labelled_only: bool = False

    def __call__(self) -> list[Pair]:
        """List the pairs, sorted by path or in the order of the file list.

        Raises:
            NotThere: the folder is missing.
            ValueError: it holds no image, or there is no file list.
            FaultyListing: an image lacks its label file, a file lies outside, or a line of the file list names what
                is not there.
        """
        root = Path(self.root).expanduser().absolute()
        folder = root / self.images
        if not folder.is_dir():
            missing = folder if root.is_dir() else root
            raise NotThere(f"the folder '{missing}' does not exist: {self._remedy(root)}")
        if self.file_list:
            pairs, faults = read_pairs(root / self.file_list, partial(self._of_line, root))
        else:
            pairs, faults = list(self._found(root)), []
        if self.labelled_only:
            pairs = [pair for pair in pairs if pair.labels is None or pair.labels.is_file()]
        if not pairs and not faults:
            sought = "image with labels" if self.labelled_only else "image"
            raise ValueError(f"the split is empty, no {sought} lies in '{folder}': {self._remedy(root)}")
        _refuse_faults(pairs, root, faults)
        return pairs

    def _found(self, root: Path) -> Iterator[Pair]:
        """Give every image below the folder, in the order of the paths."""
        folder = root / self.images
        for path in sorted(path for path in folder.rglob("*") if not path.name.startswith(".") and path.is_file()):
            if (ending := self._ending(path)) is not None:
                stem = path.relative_to(folder).as_posix()[: -len(ending)]
                yield Pair(path, self._label_file(root, stem), stem)

    def _of_line(self, root: Path, where: str, columns: list[str]) -> Pair:
        """Give what a line of the file list names."""
        folder, (first, *more) = root / self.images, columns
        image = listed_file(where, first, folder, root)
        below = image.relative_to(folder if image.is_relative_to(folder) else root).as_posix()
        stem = below[: len(below) - len(self._ending(image) or image.suffix)]
        if len(more) > 1 or (more and self.labels is None):
            raise ValueError(
                f"{where} has {1 + len(more)} columns, but a line is an image and at most its label file; part "
                "them by a tab if a path has spaces"
            )
        labels = self._label_file(root, stem)
        return Pair(image, listed_file(where, more[0], root / str(self.labels), root) if more else labels, stem)

    def _ending(self, path: Path) -> str | None:
        """Give the declared ending that this image's name has, None for any other file."""
        name = path.name.lower()
        return next((ending for ending in self.image_endings if name.endswith(ending.lower())), None)

    def _label_file(self, root: Path, stem: str) -> Path | None:
        """Derive the label file's path from the image's, without its ending, below the folder."""
        if self.labels is None:
            return None
        candidates = [root / self.labels / (stem + ending) for ending in self._label_endings()]
        found = (path for path in candidates if path.is_file()) if len(candidates) > 1 else iter(())
        return next(found, candidates[0])

    def _label_endings(self) -> tuple[str, ...]:
        """Give the endings of label files, also where there is only one."""
        return (self.label_ending,) if isinstance(self.label_ending, str) else tuple(self.label_ending)

    def _remedy(self, root: Path) -> str:
        """Say which layout was searched and what the user can do."""
        layout = f"{self.images}/**/*({'|'.join(self.image_endings)})"
        if self.labels is not None:
            endings = self._label_endings()
            ending = endings[0] if len(endings) == 1 else f"({'|'.join(endings)})"
            layout += f" with {self.labels}/**/*{ending}"
        origin = f"; {self.origin}" if self.origin else ""
        return f"searched the layout {layout} under '{root}'; set data.root to the folder of the data set{origin}"


def read_pairs(path: Path, pair_of: Callable[[str, list[str]], Pair]) -> tuple[list[Pair], list[Fault]]:
    """Make a pair of each line of a list; a line that is refused becomes a fault, and the next ones go on.

    Args:
        path: the list.
        pair_of: makes a pair of a line, as `read_file_list` gives it, or refuses it by a ValueError.

    Raises:
        ValueError: as `read_file_list`.
    """
    pairs: list[Pair] = []
    faults: list[Fault] = []
    for where, columns in read_file_list(path):
        try:
            pairs.append(pair_of(where, columns))
        except ValueError as error:
            faults.append(Fault(Kind.LINE, path, str(error)))
    return pairs, faults


def read_file_list(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Give the lines of a list, each with the words that name it in messages, and its columns.

    Columns are parted by tabs or, in a line without one, by spaces; empty lines are skipped.

    Raises:
        ValueError: the list is missing, or not a text file, or names nothing.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the file list '{path}' ({error}); mend its path, or give a text file") from error
    if not text.strip() or "\0" in text:
        raise ValueError(f"the file list '{path}' names no image: give one path a line")
    for number, line in enumerate(text.split("\n"), 1):
        columns = [column.strip() for column in line.split("\t")] if "\t" in line else line.split()
        if any(columns):
            yield f"line {number} of '{path}'", [column for column in columns if column]


def listed_file(where: str, text: str, base: Path, root: Path) -> Path:
    """Give the file that a line names.

    Args:
        where: the line, in words.
        text: the path as the line gives it.
        base: folder that it is relative to.
        root: folder of the data set, which the file may not leave: not by an absolute path, by `..`, or by a link.

    Raises:
        ValueError: the file lies outside, or is missing; one sentence that names list, line and path.
    """
    if os.path.isabs(text):
        raise ValueError(f"{where} names '{text}', but paths are relative to '{base}'; take the folder off")
    path, home = Path(os.path.normpath(base / text)), root.resolve()
    try:
        target, is_there = path.resolve(), path.is_file()
    except (OSError, RuntimeError):  # a name too long, a link to itself
        target, is_there = home, False
    if not target.is_relative_to(home):
        raise ValueError(
            f"{where} names '{text}', which leads to '{target}', outside data.root '{home}'; copy the file into "
            "data.root, or remove the line"
        )
    if not is_there:
        raise ValueError(f"{where} names '{text}', but there is no file '{path}'; add it, or remove the line")
    return path


def _refuse_faults(pairs: Sequence[Pair], root: Path, lines: Sequence[Fault]) -> None:
    """Refuse lines of a list, images without labels and files outside: the first is said, all are kept."""
    home, unlabelled, outside = root.resolve(), [], []
    for pair in pairs:
        if pair.labels is not None and not pair.labels.is_file():
            message = f"expected the label file '{pair.labels}'; add it, or remove the image from the split"
            unlabelled.append(Fault(Kind.NO_LABELS, pair.image, f"'{pair.image}': {message}"))
        for path in (pair.image, pair.labels):
            if path is not None and not path.resolve().is_relative_to(home):
                message = f"'{path}' leads to '{path.resolve()}', outside data.root '{home}'; copy it into data.root"
                outside.append(Fault(Kind.OUTSIDE, path, message))
    faults = [*lines, *unlabelled, *outside]
    if not faults:
        return
    message = faults[0].message
    if faults[0].kind is Kind.NO_LABELS:
        message = f"{len(unlabelled)} of {len(pairs)} images have no labels, first {message}"
    raise FaultyListing(message, pairs, faults)
