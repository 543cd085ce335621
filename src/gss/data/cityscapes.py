"""Cityscapes: the folder layout of the official archives, and the table from label ids to 19 train ids."""

from __future__ import annotations

from pathlib import Path

from gss.data.folder import FolderPairs
from gss.data.pairs import Pair
from gss.labels import IGNORE, LabelSpace

ORIGIN = (
    "download leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from www.cityscapes-dataset.com and "
    "unpack both there"
)

# label id, name and colour in the order of the train ids, after cityscapesScripts/helpers/labels.py
_CLASSES = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
LABEL_IDS = {name: label_id for label_id, name, _ in _CLASSES}
"""The id that the official label files store, by class name."""

_NUM_IDS = 34  # 0 .. 33; licence plates are -1, which a byte stores as 255


def cityscapes_labels() -> LabelSpace:
    """Describe the 19 evaluated classes; every other official id (0 .. 33 and 255) is ignored."""
    ignored = dict.fromkeys([*range(_NUM_IDS), IGNORE], IGNORE)
    return LabelSpace(
        names=tuple(name for _, name, _ in _CLASSES),
        colours=tuple(colour for _, _, colour in _CLASSES),
        raw_to_train=ignored | {raw: train for train, (raw, _, _) in enumerate(_CLASSES)},
    )


class CityscapesPairs:
    """List one split of a folder in the official layout, sorted by path.

    `leftImg8bit/{split}/{city}/{city}_{sequence}_{frame}_leftImg8bit.png` belongs to
    `gtFine/{split}/{city}/{city}_{sequence}_{frame}_gtFine_labelIds.png`. The archives ship label ids, not
    train ids; the table maps them while reading, so nothing needs to be converted beforehand.

    Args:
        root: the folder that holds `leftImg8bit` and `gtFine`.
        split: train, val or test.
    """

    def __init__(self, root: str | Path, split: str) -> None:
        """Store where to look; the disk is searched when called."""
        self.root = Path(root)
        self.split = split

    def __call__(self) -> list[Pair]:
        """List the pairs.

        Raises:
            ValueError: the folders are missing or empty, or a photograph has no labels.
        """
        return FolderPairs(
            root=self.root,
            images=f"leftImg8bit/{self.split}",
            labels=f"gtFine/{self.split}",
            image_endings=("_leftImg8bit.png",),
            label_ending="_gtFine_labelIds.png",
            origin=ORIGIN,
        )()
