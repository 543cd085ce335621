"""MSeg: seven data sets under one taxonomy to train on, six others to test on, as its official scripts leave them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from gss.data.folder import listed_file, read_pairs
from gss.data.mseg_taxonomy import training_labels
from gss.data.pairs import FaultyListing, NotThere, Pair, changed, list_parts

TRAINING_FOLDERS = {
    "ade20k-150": "ADE20K/ADEChallengeData2016",
    "bdd": "BDD/bdd100k",
    "cityscapes-19": "Cityscapes",
    "coco-panoptic-133": "COCOPanoptic",
    "idd-39": "IDD/IDD_Segmentation",
    "mapillary-public65": "MapillaryVistasPublic",
    "sunrgbd-37": "SUNRGBD",
}
"""Where the training sets lie; `-relabeled` after a name means the masks that MSeg's annotators corrected."""

TEST_FOLDERS = {
    "camvid-11": "Camvid",
    "kitti-19": "KITTI",
    "pascal-context-60": "PASCAL_Context",
    "scannet-20": "ScanNet/scannet_frames_25k",
    "voc2012": "PASCAL_VOC_2012",
    "wilddash-19": "WildDash",
}
_RELABELLED = "-relabeled"


class MSegPairs:
    """List one split of the training data sets, each with the table from its own ids to the universal classes.

    The official lists, `dataset_lists/{name}/list/{split}.txt`, give an image and its label file a line. Small data
    sets are repeated in training, so that each is seen about as often as the largest. The data set's name is the pair's
    condition, so each is scored by itself too.

    Args:
        root: the folder `mseg_dataset`.
        taxonomy: folder `mseg` of a clone of mseg-api.
        split: train or val.
        repeat: how often a pass over the training split shows each data set, by name; 0 leaves it out. In other splits
            each is listed once.

    Raises:
        ValueError: a name is none of a training set, a number is below 0, or nothing is left.
    """

    def __init__(self, root: str | Path, taxonomy: str | Path, split: str, repeat: Mapping[str, int]) -> None:
        """Check the names; the disk is searched when called."""
        for name, times in repeat.items():
            if name.removesuffix(_RELABELLED) not in TRAINING_FOLDERS:
                known = ", ".join(name + _RELABELLED for name in TRAINING_FOLDERS)
                raise ValueError(f"'{name}' is no training set of MSeg; data.splits.train.repeat may have {known}")
            if type(times) is not int or times < 0:
                raise ValueError(f"data.splits.train.repeat.{name} must be a whole number of at least 0, got {times!r}")
        if not any(repeat.values()):
            raise ValueError(f"data.splits.train.repeat leaves no data set of MSeg, got {dict(repeat)}")
        self.root = Path(root).expanduser().absolute()
        self.taxonomy = Path(taxonomy)
        self.split = split
        self.repeat = {name: times for name, times in repeat.items() if times}

    def __call__(self) -> list[Pair]:
        """List the pairs, data set by data set.

        Raises:
            ValueError: the table or a list is missing, or a line names a file that is not there or lies outside.
        """
        return list_parts(partial(self._part, name, times) for name, times in self.repeat.items())

    def _part(self, name: str, times: int) -> list[Pair]:
        """List one data set, as often as its share says."""
        home = self.root / TRAINING_FOLDERS[name.removesuffix(_RELABELLED)]
        listed = partial(_listed, self.root, home, self.taxonomy, name, self.split)
        space = training_labels(self.taxonomy, name)
        own = changed(listed, lambda pair: pair._replace(label_space=space))()
        return own * (times if self.split == "train" else 1)


class MSegTestPairs:
    """List one split of a test data set, in its own ids and classes (`own_labels`).

    Args:
        root: the folder `mseg_dataset`.
        taxonomy: folder `mseg` of a clone of mseg-api.
        dataset: one of the six, such as voc2012.
        split: train or val.

    Raises:
        ValueError: the data set is none of the six.
    """

    def __init__(self, root: str | Path, taxonomy: str | Path, dataset: str, split: str) -> None:
        """Check the name; the disk is searched when called."""
        if dataset not in TEST_FOLDERS:
            known = ", ".join(TEST_FOLDERS)
            raise ValueError(f"'{dataset}' is no test set of MSeg: data.label_space.dataset may be {known}")
        self.root = Path(root).expanduser().absolute()
        self.taxonomy = Path(taxonomy)
        self.dataset = dataset
        self.split = split

    def __call__(self) -> list[Pair]:
        """List the pairs, in the order of the official list.

        Raises:
            ValueError: the list is missing, or a line names a file that is not there or lies outside.
        """
        home = self.root / TEST_FOLDERS[self.dataset]
        return _listed(self.root, home, self.taxonomy, self.dataset, self.split)


def _listed(root: Path, home: Path, taxonomy: Path, dataset: str, split: str) -> list[Pair]:
    """Give the pairs of one official list, whose paths are relative to `home`."""
    if not home.is_dir():
        raise NotThere(
            f"the folder '{home}' of {dataset} does not exist: set data.root to the folder mseg_dataset that the "
            "download_scripts of mseg-api made"
        )
    official = taxonomy / "dataset_lists" / dataset / "list" / f"{split}.txt"
    pairs, faults = read_pairs(official, partial(_of_line, root, home, dataset))
    if faults:
        raise FaultyListing(faults[0].message, pairs, faults)
    return pairs


def _of_line(root: Path, home: Path, dataset: str, where: str, columns: list[str]) -> Pair:
    """Give what a line of an official list names."""
    if len(columns) != 2:
        raise ValueError(f"{where} has {len(columns)} columns, but MSeg lists an image and its label file")
    image, labels = (listed_file(where, column, home, root) for column in columns)
    return Pair(image, labels, f"{dataset}/{image.relative_to(home).with_suffix('').as_posix()}", dataset)
