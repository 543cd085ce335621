"""ADE20K: the folder layout of the scene parsing benchmark's archive, and its 150 classes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from gss.data.folder import FolderPairs
from gss.data.pairs import Pair
from gss.labels import IGNORE, LabelSpace, default_colours

# FOLDED The 150 classes of ADE20K's scene parsing benchmark: name, share of all pixels, training pictures with the class.
# FOLDED
# FOLDED Facts from objectInfo150.txt of github.com/CSAILVision/sceneparsing (Zhou et al., "Scene Parsing through ADE20K
# FOLDED Dataset", CVPR 2017). Of several names the first is kept. The shares are of all pixels: 7 % are unlabelled.

NUM_TRAINING_PICTURES = 20_210


class ADE20KClass(NamedTuple):
    """One class: its name, its share of all training pixels in [0, 1], and in how many training pictures it occurs."""

    name: str
    share: float
    num_pictures: int


CLASSES = tuple(
    ADE20KClass(*row)
    for row in (  # in the order of the ids 1 to 150 that label files store
        ("wall", 0.1576, 11664),
        ("building", 0.1072, 6046),
        ("sky", 0.0878, 8265),
        ("floor", 0.0621, 9336),
        ("tree", 0.0480, 6678),
        ("ceiling", 0.0450, 6604),
        ("road", 0.0398, 4023),
        ("bed", 0.0231, 1906),
        ("windowpane", 0.0198, 4688),
        ("grass", 0.0183, 2423),
        ("cabinet", 0.0181, 2874),
        ("sidewalk", 0.0166, 3068),
        ("person", 0.0160, 5075),
        ("earth", 0.0151, 1804),
        ("door", 0.0118, 6666),
        ("table", 0.0110, 4269),
        ("mountain", 0.0109, 1691),
        ("plant", 0.0104, 3999),
        ("curtain", 0.0104, 2149),
        ("chair", 0.0103, 3261),
        ("car", 0.0098, 3164),
        ("water", 0.0074, 709),
        ("painting", 0.0067, 3296),
        ("sofa", 0.0065, 1191),
        ("shelf", 0.0061, 1516),
        ("house", 0.0060, 667),
        ("sea", 0.0053, 651),
        ("mirror", 0.0052, 1847),
        ("rug", 0.0046, 1158),
        ("field", 0.0044, 480),
        ("armchair", 0.0044, 1172),
        ("seat", 0.0044, 1292),
        ("fence", 0.0033, 1386),
        ("desk", 0.0031, 698),
        ("rock", 0.0030, 781),
        ("wardrobe", 0.0027, 380),
        ("lamp", 0.0026, 3089),
        ("bathtub", 0.0024, 404),
        ("railing", 0.0024, 804),
        ("cushion", 0.0023, 1453),
        ("base", 0.0023, 411),
        ("box", 0.0022, 1440),
        ("column", 0.0022, 800),
        ("signboard", 0.0020, 2650),
        ("chest of drawers", 0.0019, 549),
        ("counter", 0.0019, 367),
        ("sand", 0.0018, 311),
        ("sink", 0.0018, 1181),
        ("skyscraper", 0.0018, 287),
        ("fireplace", 0.0018, 468),
        ("refrigerator", 0.0018, 402),
        ("grandstand", 0.0018, 130),
        ("path", 0.0018, 561),
        ("stairs", 0.0017, 880),
        ("runway", 0.0017, 86),
        ("case", 0.0017, 172),
        ("pool table", 0.0017, 198),
        ("pillow", 0.0017, 930),
        ("screen door", 0.0015, 139),
        ("stairway", 0.0015, 564),
        ("river", 0.0015, 320),
        ("bridge", 0.0015, 261),
        ("bookcase", 0.0014, 275),
        ("blind", 0.0014, 335),
        ("coffee table", 0.0014, 792),
        ("toilet", 0.0014, 395),
        ("flower", 0.0014, 1309),
        ("book", 0.0013, 1112),
        ("hill", 0.0013, 266),
        ("bench", 0.0013, 659),
        ("countertop", 0.0012, 331),
        ("stove", 0.0012, 531),
        ("palm", 0.0012, 369),
        ("kitchen island", 0.0012, 144),
        ("computer", 0.0011, 265),
        ("swivel chair", 0.0010, 324),
        ("boat", 0.0009, 304),
        ("bar", 0.0009, 170),
        ("arcade machine", 0.0009, 68),
        ("hovel", 0.0009, 65),
        ("bus", 0.0009, 248),
        ("towel", 0.0008, 492),
        ("light", 0.0008, 2510),
        ("truck", 0.0008, 440),
        ("tower", 0.0008, 147),
        ("chandelier", 0.0008, 583),
        ("awning", 0.0007, 533),
        ("streetlight", 0.0007, 1989),
        ("booth", 0.0007, 71),
        ("television", 0.0007, 618),
        ("airplane", 0.0007, 135),
        ("dirt track", 0.0007, 83),
        ("apparel", 0.0007, 178),
        ("pole", 0.0006, 1003),
        ("land", 0.0006, 182),
        ("bannister", 0.0006, 452),
        ("escalator", 0.0006, 42),
        ("ottoman", 0.0006, 307),
        ("bottle", 0.0006, 965),
        ("buffet", 0.0006, 117),
        ("poster", 0.0006, 354),
        ("stage", 0.0006, 108),
        ("van", 0.0006, 557),
        ("ship", 0.0006, 52),
        ("fountain", 0.0005, 99),
        ("conveyer belt", 0.0005, 57),
        ("canopy", 0.0005, 292),
        ("washer", 0.0005, 77),
        ("plaything", 0.0005, 340),
        ("swimming pool", 0.0005, 66),
        ("stool", 0.0005, 465),
        ("barrel", 0.0005, 50),
        ("basket", 0.0005, 622),
        ("waterfall", 0.0005, 80),
        ("tent", 0.0005, 59),
        ("bag", 0.0005, 531),
        ("minibike", 0.0005, 282),
        ("cradle", 0.0005, 73),
        ("oven", 0.0005, 435),
        ("ball", 0.0005, 136),
        ("food", 0.0005, 116),
        ("step", 0.0004, 266),
        ("tank", 0.0004, 58),
        ("trade name", 0.0004, 418),
        ("microwave", 0.0004, 319),
        ("pot", 0.0004, 1193),
        ("animal", 0.0004, 97),
        ("bicycle", 0.0004, 347),
        ("lake", 0.0004, 52),
        ("dishwasher", 0.0004, 246),
        ("screen", 0.0004, 108),
        ("blanket", 0.0004, 201),
        ("sculpture", 0.0004, 285),
        ("hood", 0.0004, 268),
        ("sconce", 0.0003, 1020),
        ("vase", 0.0003, 1282),
        ("traffic light", 0.0003, 528),
        ("tray", 0.0003, 453),
        ("ashcan", 0.0003, 671),
        ("fan", 0.0003, 397),
        ("pier", 0.0003, 92),
        ("crt screen", 0.0003, 228),
        ("plate", 0.0003, 570),
        ("monitor", 0.0003, 217),
        ("bulletin board", 0.0003, 206),
        ("shower", 0.0003, 130),
        ("radiator", 0.0003, 178),
        ("glass", 0.0002, 504),
        ("clock", 0.0002, 775),
        ("flag", 0.0002, 421),
    )
)

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
        names=tuple(row.name for row in CLASSES),
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
