"""MSeg's taxonomy: the universal classes, and how the classes of each data set go into them or come out of them.

Lambert et al., "MSeg: A Composite Dataset for Multi-domain Semantic Segmentation", CVPR 2020. The table is the users'
own copy of the official one, `MSeg_master.tsv`: a row per universal class, a column per data set, and in a cell the
classes of that data set, `{a, b}` if there are several; the row `unlabeled` lists what is ignored.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gss.labels import IGNORE, LabelSpace, default_colours

TABLE = "class_remapping_files/MSeg_master.tsv"
UNIVERSAL = "universal"
UNLABELLED = "unlabeled"
REMEDY = (
    "clone github.com/mseg-dataset/mseg-api into data.root, or set data.label_space.taxonomy to the folder mseg in it"
)


class Taxonomy:
    """The table of a clone of mseg-api.

    Args:
        folder: `mseg` in the clone.

    Raises:
        ValueError: the table is missing, or is none.
    """

    def __init__(self, folder: str | Path) -> None:
        """Read the table."""
        self.folder = Path(folder)
        text = io.StringIO(_text(self.folder / TABLE))
        self._rows = list(csv.DictReader(text, delimiter="\t", quoting=csv.QUOTE_NONE, restval=""))
        if not self._rows or UNIVERSAL not in self._rows[0]:
            raise ValueError(f"'{self.folder / TABLE}' has no column '{UNIVERSAL}'; {REMEDY}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the universal classes; a class's position is its train id."""
        return tuple(name for row in self._rows if (name := row[UNIVERSAL].strip()) != UNLABELLED)

    def own_names(self, dataset: str) -> tuple[str, ...]:
        """Give the classes of a data set; a class's position is its id in the label files.

        Raises:
            ValueError: the clone has no list of names for it.
        """
        path = self.folder / "dataset_lists" / dataset / f"{dataset}_names.txt"
        return tuple(name for line in _text(path).splitlines() if (name := line.strip()))

    def pairs(self, dataset: str) -> Iterator[tuple[int, int]]:
        """Give each id of a data set with the train id of the universal class in whose row it stands, 255 if in none.

        Raises:
            ValueError: the table has no column for the data set, or its list of names lacks a class.
        """
        if dataset not in self._rows[0]:
            raise ValueError(f"'{self.folder / TABLE}' has no column '{dataset}'; {REMEDY}")
        own_ids = {name: own for own, name in enumerate(self.own_names(dataset))}
        train_ids = {name: train for train, name in enumerate(self.names)} | {UNLABELLED: IGNORE}
        for row in self._rows:
            for name in _classes(row[dataset]):
                if name not in own_ids:
                    raise ValueError(
                        f"'{self.folder / TABLE}' names the class '{name}' of {dataset}, but {dataset}_names.txt does "
                        "not; take both from one version of mseg-api"
                    )
                yield own_ids[name], train_ids[row[UNIVERSAL].strip()]


def universal_labels(taxonomy: str | Path) -> LabelSpace:
    """Describe the universal classes, 194 in the official table.

    No file holds their ids, so its own table knows only 255: each pair brings the table of its data set.

    Args:
        taxonomy: folder `mseg` in a clone of mseg-api.
    """
    names = Taxonomy(taxonomy).names
    return LabelSpace(names, default_colours(len(names)), {IGNORE: IGNORE})


def training_labels(taxonomy: str | Path, dataset: str) -> LabelSpace:
    """Describe the universal classes for the label files of one training set, which hold its own ids.

    Args:
        taxonomy: folder `mseg` in a clone of mseg-api.
        dataset: such as ade20k-150-relabeled.

    Raises:
        ValueError: the table or the list of names is missing, or they do not go together.
    """
    table = Taxonomy(taxonomy)
    return LabelSpace(
        names=table.names,
        colours=default_colours(len(table.names)),
        raw_to_train={**dict(table.pairs(dataset)), IGNORE: IGNORE},
    )


def own_labels(taxonomy: str | Path, dataset: str) -> LabelSpace:
    """Describe the classes of a test set, whose label files hold their ids and 255.

    Args:
        taxonomy: folder `mseg` in a clone of mseg-api.
        dataset: such as voc2012.

    Raises:
        ValueError: the list of names is missing.
    """
    return LabelSpace.from_names(Taxonomy(taxonomy).own_names(dataset))


def members_of(taxonomy: str | Path, dataset: str) -> NDArray[np.float32]:
    """Say which universal classes make up each class of a test set.

    Args:
        taxonomy: folder `mseg` in a clone of mseg-api.
        dataset: such as voc2012.

    Returns:
        (K of the test set, K universal) float32 in {0, 1}; a universal class counts to one class or to none.

    Raises:
        ValueError: the table or the list of names is missing, or they do not go together.
    """
    table = Taxonomy(taxonomy)
    members = np.zeros((len(table.own_names(dataset)), len(table.names)), np.float32)
    for own, universal in table.pairs(dataset):
        if universal != IGNORE:
            members[own, universal] = 1
    return members


def merged_probs(class_probs: Tensor, members: NDArray[np.float32]) -> Tensor:
    """Add up what a network of universal classes gives to each class of a test set, as MSeg is evaluated.

    p(k) = sum over u of members[k, u] p(u). What counts to no class of the test set is lost: the sum may be below 1.

    Args:
        class_probs: (B, K universal, H, W) float32, sums to 1 over K.
        members: (K of the test set, K universal) float32, from `members_of`.

    Returns:
        (B, K of the test set, H, W) float32 in [0, 1].
    """
    return torch.einsum("ku,buhw->bkhw", torch.from_numpy(members).to(class_probs), class_probs)


def _classes(cell: str) -> list[str]:
    """Take a cell of the table apart: `{a, b}`, one name, or nothing."""
    cell = cell.strip()
    names = cell[1:-1].split(",") if cell.startswith("{") else [cell]
    return [name.strip() for name in names if name.strip()]


def _text(path: Path) -> str:
    """Read a file of the clone."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read '{path}' ({error}); {REMEDY}") from error
