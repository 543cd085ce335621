"""Cityscapes, ADE20K, ACDC and MSeg in miniature: blocks and noise, named and laid out as the archives unpack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (16, 32)
TO_TRAIN = np.full(256, 255, np.uint8)  # typed from the table of the official scripts, independently of the package
TO_TRAIN[[7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]] = range(19)
CITIES = {"train": "aachen", "val": "frankfurt", "test": "berlin", "train_extra": "augsburg"}
RECORDINGS = {"fog": "GOPR0475", "night": "GOPR0351", "rain": "GOPR0400", "snow": "GOPR0122"}


def draw_image(path: Path, size: tuple[int, int] = SIZE) -> None:
    """Write noise that depends on the file's name."""
    random = np.random.default_rng(list(path.name.encode()))
    save(path, random.integers(0, 256, (*size, 3), dtype=np.uint8))


def draw_ids(name: str, ids: Iterable[int], size: tuple[int, int] = SIZE) -> np.ndarray:
    """Give blocks of 4x8 pixels with ids chosen by the name, (H, W) uint8."""
    random = np.random.default_rng(list(name.encode()))
    blocks = random.choice(np.array(list(ids), np.uint8), (size[0] // 4, size[1] // 8))
    return blocks.repeat(4, 0).repeat(8, 1)


def save(path: Path, pixels: np.ndarray) -> None:
    """Write a PNG or JPEG, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def draw_official_labels(stem: Path, kinds: Iterable[str], dummy: bool = False) -> None:
    """Write `{stem}_labelIds.png`, `{stem}_labelTrainIds.png` and the colours, or the dummies of a test split."""
    ids = draw_ids(stem.name, [1] if dummy else [0, 1, 4, 7, 8, 11, 23, 26, 33])
    drawn = {"labelIds": ids, "labelTrainIds": TO_TRAIN[ids], "labelColor": np.stack([ids] * 3, -1)}
    for kind in kinds:
        save(stem.with_name(f"{stem.name}_{kind}.png"), drawn[kind])


def draw_cityscapes(
    root: Path, counts: Mapping[str, int], annotations: str = "gtFine", kinds: Iterable[str] = ("labelIds",)
) -> None:
    """Write some splits; the labels of the test split are dummies."""
    for split, count in counts.items():
        city = CITIES[split]
        for number in range(count):
            frame = f"{city}_{number:06d}_000019"
            draw_image(root / "leftImg8bit" / split / city / f"{frame}_leftImg8bit.png")
            labels = root / annotations / split / city / f"{frame}_{annotations}"
            draw_official_labels(labels, kinds, dummy=split == "test")


UNPACKINGS = {  # folders of images and labels, and whether recordings have folders
    "plain": ("rgb_anon", "gt", True),
    "zip names": ("rgb_anon_trainvaltest/rgb_anon", "gt_trainval/gt", True),
    "flattened": ("rgb_anon", "gt", False),
}


def draw_acdc(
    root: Path,
    counts: Mapping[str, int],
    unpacking: str = "plain",
    kinds: Iterable[str] = ("labelIds", "labelTrainIds", "labelColor"),
) -> None:
    """Write each split for each condition, and as many references, of which every other one has labels."""
    images, labels, recorded = UNPACKINGS[unpacking]
    for condition, recording in RECORDINGS.items():
        for split, count in counts.items():
            for number in range(count):
                for ref in ("", "_ref"):
                    place = Path(condition) / f"{split}{ref}" / (recording if recorded else "")
                    frame = f"{recording}_frame_{number:06d}"
                    draw_image(root / images / place / f"{frame}_rgb{ref}_anon.png")
                    if split != "test" and not (ref and number % 2):
                        draw_official_labels(root / labels / place / f"{frame}_gt{ref}", kinds)


def draw_ade20k(root: Path, counts: Mapping[str, int], beside: bool = True) -> None:
    """Write some splits; `release_test` lies beside the folder of the others, or in it."""
    base = root / "ADEChallengeData2016"
    folders = {"train": "training", "val": "validation"}
    for split, count in counts.items():
        for number in range(1, count + 1):
            name = f"ADE_{split}_{number:08d}"
            if split == "test":
                draw_image((root if beside else base) / "release_test" / "testing" / f"{name}.jpg")
                continue
            draw_image(base / "images" / folders[split] / f"{name}.jpg")
            save(base / "annotations" / folders[split] / f"{name}.png", draw_ids(name, range(0, 151, 10)))


# name, the folder in mseg_dataset, and a line of its official list val.txt (train.txt: the same with other folders)
MSEG = {
    "ade20k-150-relabeled": (
        "ADE20K/ADEChallengeData2016",
        "images/validation/ADE_val_00000001.jpg annotations_semseg150_relabeled/validation/ADE_val_00000001.png",
    ),
    "bdd-relabeled": (
        "BDD/bdd100k",
        "seg/images/val/ff55861e-a06b953c.jpg seg_relabeled/labels/val/ff55861e-a06b953c_train_id.png",
    ),
    "cityscapes-19-relabeled": (
        "Cityscapes",
        "leftImg8bit/val/munster/munster_000173_000019_leftImg8bit.png "
        "gtFine_19cls_relabeled/val/munster/munster_000173_000019_gtFine_labelIds.png",
    ),
    "coco-panoptic-133-relabeled": (
        "COCOPanoptic",
        "images/val2017/000000581615.jpg semantic_relabeled133/val2017/000000581615.png",
    ),
    "idd-39-relabeled": (
        "IDD/IDD_Segmentation",
        "leftImg8bit/val/89/946749_leftImg8bit.png gtFine39_relabeled/val/89/946749_gtFine_labelids.png",
    ),
    "mapillary-public65-relabeled": (
        "MapillaryVistasPublic",
        "validation/images/zyupbI4cbeYqIPXQOANOeQ.jpg validation_semseg65_relabeled/labels/zyupbI4cbeYqIPXQOANOeQ.png",
    ),
    "sunrgbd-37-relabeled": ("SUNRGBD", "image/test/img-005029.jpg semseg-relabeled37/test/00005029.png"),
    "camvid-11": ("Camvid", "701_StillsRaw_full/0016E5_07959.png semseg11/0016E5_07959_L.png"),
    "kitti-19": ("KITTI", "training/image_2/000052_10.png training/label19/000052_10.png"),
    "pascal-context-60": ("PASCAL_Context", "JPEGImages/2010_006084.jpg Segmentation_GT_60cls/2010_006084.png"),
    "scannet-20": ("ScanNet/scannet_frames_25k", "scene0685_02/color/000200.jpg scene0685_02/label20/000200.png"),
    "voc2012": ("PASCAL_VOC_2012", "JPEGImages/2007_000033.jpg SegmentationClassAug/2007_000033.png"),
    "wilddash-19": ("WildDash", "wd_val_01/zm0002_100000.png wd_val_19class/zm0002_100000_labelIds.png"),
}

# some columns and rows of MSeg_master.tsv as they stand there, test sets last; "" is an empty cell
COLUMNS = (
    "Parent Category\tade20k-150\tade20k-150-relabeled\tbdd-relabeled\tcityscapes-19-relabeled\t"
    "coco-panoptic-133-relabeled\tidd-39-relabeled\tmapillary-public65-relabeled\tsunrgbd-37-relabeled\tuniversal\t"
    "WordNet 3.1 Synset\tkitti-19\tvoc2012\tscannet-20\tcamvid-11\twilddash-19\tpascal-context-60"
)
ROWS = (
    "furniture\tchair\tchair_other\t\t\tchair_other\t\t\tchair_other\tchair_other\tchair.n.01\t\tchair\tchair\t\t\tchair",
    "furniture\tarmchair\tarmchair\t\t\tarmchair\t\t\tarmchair\tarmchair\tchair.n.01\t\tchair\tchair\t\t\tchair",
    "ground\troad\troad\troad\troad\troad\troad\troad\t\troad\troad.n.01\troad\tbackground\t\tRoad\troad\troad",
    "building-parent\t{house,building,  skyscraper,  booth,  hovel,  tower, grandstand}\tbuilding\tbuilding\tbuilding\t"
    "building\tbuilding\tbuilding\t\tbuilding\tbuilding.n.01\tbuilding\tbackground\t\tBuilding\tbuilding\tbuilding",
    "\tsky\tsky\tsky\tsky\tsky\tsky\tsky\t\tsky\tsky.n.01\tsky\tbackground\t\tSky\tsky\tsky",
    "person-parent\tperson\tperson\tperson\tperson\tperson\tperson\tperson\tperson\tperson\tperson.n.01\tperson\tperson\t"
    "\tPedestrian\tperson\tperson",
    "person-parent\t\tbicyclist\tbicyclist\tbicyclist\tbicyclist\tbicyclist\tbicyclist\t\tbicyclist\t\trider\tperson\t"
    "\tBicyclist\trider\tperson",
    "vehicle\tbicycle\tbicycle\tbicycle\tbicycle\tbicycle\tbicycle\tbicycle\t\tbicycle\tbicycle.n.01\tbicycle\tbicycle\t"
    "\tBicyclist\tbicycle\tbicycle",
    "wall\twall\twall\twall\twall\twall\twall\twall\twall\twall\twall.n.01\twall\tbackground\twall\t\twall\twall",
    "unlabeled\t{computer, signboard}\t\t\t\t\t\t\t{table}\tunlabeled\t\t\t\t\t\t\t",
)
UNIVERSAL = ("chair_other", "armchair", "road", "building", "sky", "person", "bicyclist", "bicycle", "wall")


def own_names(dataset: str) -> list[str]:
    """Give the classes that the drawn table has in a data set's column, in the order of the alphabet."""
    column = COLUMNS.split("\t").index(dataset)
    cells = [row.split("\t")[column].strip("{}") for row in ROWS]
    return sorted({name.strip() for cell in cells for name in cell.split(",") if name.strip()}, key=str.lower)


def draw_mseg(root: Path) -> None:
    """Write `mseg_dataset` at root: an image per split of each of the 13 data sets, and a clone of mseg-api."""
    mseg = root / "mseg-api" / "mseg"
    (mseg / "class_remapping_files").mkdir(parents=True)
    (mseg / "class_remapping_files" / "MSeg_master.tsv").write_text("\n".join((COLUMNS, *ROWS)) + "\n")
    for dataset, (home, line) in MSEG.items():
        names = own_names(dataset)
        (mseg / "dataset_lists" / dataset / "list").mkdir(parents=True)
        (mseg / "dataset_lists" / dataset / f"{dataset}_names.txt").write_text("\n".join(names))
        for split in ("train", "val"):
            image, labels = (f"{split}_{path}" for path in line.split())
            (mseg / "dataset_lists" / dataset / "list" / f"{split}.txt").write_text(f"{image} {labels}\n")
            draw_image(root / home / image)
            save(root / home / labels, draw_ids(dataset + split, [*range(len(names)), 255]))
