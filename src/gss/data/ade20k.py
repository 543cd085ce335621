"""ADE20K: the folder layout of the scene parsing benchmark's archive, and its 150 classes."""

from __future__ import annotations

from pathlib import Path

from gss.data.ade20k_classes import CLASSES
from gss.data.folder import FolderPairs
from gss.data.pairs import Pair
from gss.labels import IGNORE, LabelSpace, default_colours

FOLDER = "ADEChallengeData2016"
SPLITS = {"train": "training", "val": "validation"}  # the test split has no public labels
ORIGIN = f"download {FOLDER}.zip from sceneparsing.csail.mit.edu and unpack it there"
UNLABELLED = 0


def ade20k_labels() -> LabelSpace:
    """Describe the 150 classes: file ids 1 to 150 are train ids 0 to 149, and 0, unlabelled, is ignored."""
    return LabelSpace(
        names=tuple(row.name for row in CLASSES),
        colours=default_colours(len(CLASSES)),
        raw_to_train={UNLABELLED: IGNORE} | {train + 1: train for train in range(len(CLASSES))},
    )


class ADE20KPairs:
    """List one split of the unpacked archive, sorted by path.

    `ADEChallengeData2016/images/training/ADE_train_00000001.jpg` belongs to
    `ADEChallengeData2016/annotations/training/ADE_train_00000001.png`, and so on with validation and ADE_val.

    Args:
        root: the folder that holds `ADEChallengeData2016`.
        split: train or val.

    Raises:
        ValueError: the split has no labels.
    """

    def __init__(self, root: str | Path, split: str) -> None:
        """Check the split; the disk is searched when called."""
        if split not in SPLITS:
            raise ValueError(f"ADE20K has labels for the splits {', '.join(SPLITS)}, got '{split}'; mend data.splits")
        self.root = Path(root)
        self.split = split

    def __call__(self) -> list[Pair]:
        """List the pairs.

        Raises:
            ValueError: the folders are missing or empty, or a photograph has no labels.
        """
        return FolderPairs(
            root=self.root,
            images=f"{FOLDER}/images/{SPLITS[self.split]}",
            labels=f"{FOLDER}/annotations/{SPLITS[self.split]}",
            image_endings=(".jpg",),
            origin=ORIGIN,
        )()
