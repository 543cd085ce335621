"""ADE20K: the folder layout of the scene parsing benchmark's archive, and its 150 classes."""

from __future__ import annotations

from pathlib import Path

from gss.data.folder import FolderPairs
from gss.data.pairs import Pair
from gss.labels import IGNORE, LabelSpace, default_colours

# After objectInfo150.txt of github.com/CSAILVision/sceneparsing (Zhou et al., "Scene Parsing through ADE20K Dataset",
# CVPR 2017), in the order of the ids 1 to 150 that label files store; of several names the first is kept.
CLASSES = (
    "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass", "cabinet",
    "sidewalk", "person", "earth", "door", "table", "mountain", "plant", "curtain", "chair", "car", "water",
    "painting", "sofa", "shelf", "house", "sea", "mirror", "rug", "field", "armchair", "seat", "fence", "desk",
    "rock", "wardrobe", "lamp", "bathtub", "railing", "cushion", "base", "box", "column", "signboard",
    "chest of drawers", "counter", "sand", "sink", "skyscraper", "fireplace", "refrigerator", "grandstand", "path",
    "stairs", "runway", "case", "pool table", "pillow", "screen door", "stairway", "river", "bridge", "bookcase",
    "blind", "coffee table", "toilet", "flower", "book", "hill", "bench", "countertop", "stove", "palm",
    "kitchen island", "computer", "swivel chair", "boat", "bar", "arcade machine", "hovel", "bus", "towel", "light",
    "truck", "tower", "chandelier", "awning", "streetlight", "booth", "television", "airplane", "dirt track",
    "apparel", "pole", "land", "bannister", "escalator", "ottoman", "bottle", "buffet", "poster", "stage", "van",
    "ship", "fountain", "conveyer belt", "canopy", "washer", "plaything", "swimming pool", "stool", "barrel",
    "basket", "waterfall", "tent", "bag", "minibike", "cradle", "oven", "ball", "food", "step", "tank",
    "trade name", "microwave", "pot", "animal", "bicycle", "lake", "dishwasher", "screen", "blanket", "sculpture",
    "hood", "sconce", "vase", "traffic light", "tray", "ashcan", "fan", "pier", "crt screen", "plate", "monitor",
    "bulletin board", "shower", "radiator", "glass", "clock", "flag",
)  # fmt: skip

FOLDER = "ADEChallengeData2016"
SPLITS = {"train": "training", "val": "validation"}
TEST_FOLDERS = ("release_test/testing", f"{FOLDER}/release_test/testing")
"""Where the images of the test split lie, whose labels only the benchmark's server has."""

ORIGIN = f"run scripts/download_ade20k.py, or get {FOLDER}.zip from sceneparsing.csail.mit.edu and unpack it there"
TEST_ORIGIN = (
    "run scripts/download_ade20k.py --test, or get release_test.zip from sceneparsing.csail.mit.edu and unpack it there"
)
UNLABELLED = 0


def ade20k_labels() -> LabelSpace:
    """Describe the 150 classes: file ids 1 to 150 are train ids 0 to 149, and 0, unlabelled, is ignored."""
    return LabelSpace(
        names=CLASSES,
        colours=default_colours(len(CLASSES)),
        raw_to_train={UNLABELLED: IGNORE} | {train + 1: train for train in range(len(CLASSES))},
    )


class ADE20KPairs:
    """List one split of the unpacked archive, sorted by path.

    `ADEChallengeData2016/images/training/ADE_train_00000001.jpg` belongs to
    `ADEChallengeData2016/annotations/training/ADE_train_00000001.png`, and so on with validation and ADE_val.

    The test split is `release_test/testing/ADE_test_00000001.jpg`, images without labels.

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
            ValueError: the folders are missing or empty, or an image has no labels.
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
