"""FolderPairs: a split is a folder of photographs beside a folder of label PNGs with the same names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gss.data.faults import Fault, FaultyListing, Kind, NotThere
from gss.data.pairs import Pair


@dataclass(frozen=True)
class FolderPairs:
    """List the photographs under `root/images`, each with its label file under `root/labels`.

    The label file has the photograph's path below its folder, with `label_ending` in the place of the
    photograph's ending: `images/train/a/7.jpg` belongs to `labels/train/a/7.png`. Sub-folders are searched,
    the order is that of the sorted paths, and nothing outside `root` is ever read.

    Args:
        root: folder of the data set.
        images: folder of the photographs, relative to `root`.
        labels: folder of the label files, relative to `root`.
        image_endings: how names of photographs end (case does not matter); other files are left alone.
        label_ending: how names of label files end.
        origin: how to get the data, said when they are not there.
    """

    root: str | Path
    images: str
    labels: str
    image_endings: Sequence[str] = (".jpg", ".jpeg", ".png")
    label_ending: str = ".png"
    origin: str = ""

    def __call__(self) -> list[Pair]:
        """List the pairs, sorted by path.

        Raises:
            NotThere: the folder is missing.
            ValueError: it holds no photograph.
            FaultyListing: a photograph lacks its label file, or a file lies outside.
        """
        root = Path(self.root).expanduser().absolute()
        folder = root / self.images
        if not folder.is_dir():
            missing = folder if root.is_dir() else root
            raise NotThere(f"the folder '{missing}' does not exist: {self._remedy(root)}")
        photographs = sorted(path for path in folder.rglob("*") if self._ending(path) is not None)
        if not photographs:
            raise ValueError(f"the split is empty, no photograph lies in '{folder}': {self._remedy(root)}")
        pairs = [self._pair(path, folder, root / self.labels) for path in photographs]
        _refuse_faults(pairs, root)
        return pairs

    def _ending(self, path: Path) -> str | None:
        """Give the declared ending that this photograph's name has, None for any other file."""
        name = path.name.lower()
        matches = (ending for ending in self.image_endings if name.endswith(ending.lower()))
        return next(matches, None) if not name.startswith(".") and path.is_file() else None

    def _pair(self, image: Path, images: Path, labels: Path) -> Pair:
        """Derive the label file's path from the photograph's."""
        ending = self._ending(image)
        assert ending is not None
        relative = image.relative_to(images)
        stem = relative.as_posix()[: -len(ending)]
        return Pair(image, labels / (stem + self.label_ending), stem)

    def _remedy(self, root: Path) -> str:
        """Say which layout was searched and what the user can do."""
        endings = "|".join(self.image_endings)
        origin = f"; {self.origin}" if self.origin else ""
        return (
            f"searched the layout {self.images}/**/*({endings}) with {self.labels}/**/*{self.label_ending} "
            f"under '{root}'; set data.root to the folder of the data set{origin}"
        )


def _refuse_faults(pairs: Sequence[Pair], root: Path) -> None:
    """Refuse photographs without a label file, and files outside `root`: the first is said, all are kept."""
    missing = [pair for pair in pairs if pair.labels is not None and not pair.labels.is_file()]
    faults = [Fault(Kind.NO_LABELS, pair.image, f"'{pair.image}': {_expected(pair)}") for pair in missing]
    outside = list(_outside(pairs, root.resolve()))
    if missing:
        first = f"first '{missing[0].image}': {_expected(missing[0])}"
        message = f"{len(missing)} of {len(pairs)} photographs have no labels, {first}"
        raise FaultyListing(message, pairs, faults + outside)
    if outside:
        raise FaultyListing(outside[0].message, pairs, outside)


def _expected(pair: Pair) -> str:
    """Say which label file is missing."""
    return f"expected the label file '{pair.labels}'; add it, or remove the photograph from the split"


def _outside(pairs: Sequence[Pair], home: Path) -> Iterator[Fault]:
    """Find files that a link or `..` places outside the data set's folder."""
    for path in (path for pair in pairs for path in (pair.image, pair.labels) if path is not None):
        if not path.resolve().is_relative_to(home):
            message = f"'{path}' leads to '{path.resolve()}', outside data.root '{home}'; copy it into data.root"
            yield Fault(Kind.OUTSIDE, path, message)
