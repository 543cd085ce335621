"""Cityscapes: the folder layout of the official archives, and the table from label ids to 19 train ids."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from gss.data.folder import FolderPairs
from gss.data.pairs import Pair, changed
from gss.labels import IGNORE, LabelSpace
from gss.registry import lookup, one_of

LABEL_KINDS = ("labelIds", "labelTrainIds")
"""What the official label files store, as their names say it: the ids of the archives, or ids of the 19 classes."""

SPLITS = {"gtFine": ("train", "val", "test"), "gtCoarse": ("train", "train_extra", "val")}
"""The splits of each kind of annotation."""

WITHHELD = "test"
"""The split whose true labels only the benchmark's server has; the archive holds dummies, the ego vehicle alone."""

_ARCHIVES = {
    "gtFine": "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip",
    "gtCoarse": "leftImg8bit_trainvaltest.zip, leftImg8bit_trainextra.zip and gtCoarse.zip",
}

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


@cache
def cityscapes_train_ids() -> LabelSpace:
    """Describe the same classes for files of train ids (`labelTrainIds`): 0 to 18, and 255 ignored."""
    space = cityscapes_labels()
    return replace(space, raw_to_train={**{train: train for train in range(space.num_classes)}, IGNORE: IGNORE})


class CityscapesPairs:
    """List one split of a folder in the official layout, sorted by path.

    `leftImg8bit/{split}/{city}/{city}_{sequence}_{frame}_leftImg8bit.png` belongs to
    `gtFine/{split}/{city}/{city}_{sequence}_{frame}_gtFine_labelIds.png`. The archives ship label ids, not
    train ids; the table maps them while reading, so nothing needs to be converted beforehand.

    Args:
        root: the folder that holds `leftImg8bit` and `gtFine`.
        split: train, val or test; with gtCoarse train, train_extra or val.
        annotations: gtFine or gtCoarse.
        labels: which files: labelIds; labelTrainIds, which the official scripts make; or auto, labelIds where they
            are there and else labelTrainIds, and none for the test split, whose files are dummies.

    Raises:
        ValueError: one of them is none of these.
    """

    def __init__(self, root: str | Path, split: str, annotations: str = "gtFine", labels: str = "auto") -> None:
        """Check the words; the disk is searched when called."""
        splits = lookup(SPLITS, f"data.splits.{split}.annotations", annotations)
        if split not in splits:
            known = ", ".join(splits)
            raise ValueError(f"Cityscapes with {annotations} has the splits {known}, got '{split}'; mend data.splits")
        self.root = Path(root)
        self.split = split
        self.annotations = annotations
        self.kinds = label_kinds(labels, split)

    def __call__(self) -> list[Pair]:
        """List the pairs.

        Raises:
            ValueError: the folders are missing or empty, or an image has no labels.
        """
        source = FolderPairs(
            root=self.root,
            images=f"leftImg8bit/{self.split}",
            labels=f"{self.annotations}/{self.split}" if self.kinds else None,
            image_endings=("_leftImg8bit.png",),
            label_ending=[f"_{self.annotations}_{kind}.png" for kind in self.kinds],
            origin=f"download {_ARCHIVES[self.annotations]} from www.cityscapes-dataset.com and unpack them there",
        )
        return changed(source, translated)()


def label_kinds(labels: str, split: str) -> tuple[str, ...]:
    """Give the kinds of label files to look for, the first that is there counting; none where labels are withheld.

    Raises:
        ValueError: `labels` is neither a kind nor auto.
    """
    if labels == "auto":
        return () if split == WITHHELD else LABEL_KINDS
    return (one_of((*LABEL_KINDS, "auto"), f"data.splits.{split}.labels", labels),)


def translated(pair: Pair) -> Pair:
    """Give a pair whose label file holds train ids the table for it; any other keeps the data set's own."""
    holds_train_ids = pair.labels is not None and pair.labels.stem.endswith(LABEL_KINDS[1])
    return pair._replace(label_space=cityscapes_train_ids()) if holds_train_ids else pair
