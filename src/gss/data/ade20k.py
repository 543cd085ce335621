"""ADE20K: the folder layout of the scene parsing benchmark's archive, and its 150 classes."""

from __future__ import annotations

from pathlib import Path

from gss.data.ade20k_classes import CLASSES
from gss.data.folder import FolderPairs
from gss.data.pairs import Pair
from gss.labels import IGNORE, LabelSpace, default_colours

FOLDER = "ADEChallengeData2016"
SPLITS = {"train": "training", "val": "validation"}
TEST_FOLDERS = ("release_test/testing", f"{FOLDER}/release_test/testing")
"""Where the photographs of the test split lie, whose labels only the benchmark's server has."""

ORIGIN = f"run scripts/download_ade20k.py, or get {FOLDER}.zip from sceneparsing.csail.mit.edu and unpack it there"
TEST_ORIGIN = (
    "run scripts/download_ade20k.py --test, or get release_test.zip from sceneparsing.csail.mit.edu and unpack it there"
)
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

    The test split is `release_test/testing/ADE_test_00000001.jpg`, photographs without labels.

    Args:
        root: the folder that holds `ADEChallengeData2016`, and `release_test` beside it or in it.
        split: train, val or test.

    Raises:
        ValueError: the split is none of these.
    """

    def __init__(self, root: str | Path, split: str) -> None:
        """Check the split; the disk is searched when called."""
        if split not in (*SPLITS, "test"):
            known = ", ".join((*SPLITS, "test"))
            raise ValueError(f"ADE20K has the splits {known}, got '{split}'; mend data.splits")
        self.root = Path(root)
        self.split = split

    def __call__(self) -> list[Pair]:
        """List the pairs.

        Raises:
            ValueError: the folders are missing or empty, or a photograph has no labels.
        """
        if self.split == "test":
            there = (folder for folder in TEST_FOLDERS if (self.root / folder).is_dir())
            return FolderPairs(self.root, next(there, TEST_FOLDERS[0]), None, (".jpg",), origin=TEST_ORIGIN)()
        return FolderPairs(
            root=self.root,
            images=f"{FOLDER}/images/{SPLITS[self.split]}",
            labels=f"{FOLDER}/annotations/{SPLITS[self.split]}",
            image_endings=(".jpg",),
            origin=ORIGIN,
        )()
