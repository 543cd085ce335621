"""Label maps as files: PNGs of train ids with a picture of each in display colours, and label maps read for a prior."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gss.data.datamodule import SegmentationDataModule
from gss.data.reading import read_labels
from gss.data.transforms import resize_labels
from gss.labels import LabelSpace
from gss.overlay import colour_labels


def write_label_maps(folder: Path, names: Sequence[str], label_maps: Tensor, label_space: LabelSpace) -> None:
    """Writes `NAME.png` with train ids, and the same in display colours into a folder `..._colour` beside it.

    Args:
        folder: made when missing.
        names: of the files, without ending; one may lie in a folder of its own.
        label_maps: (N, H, W) int64 in [0, K) or 255.
        label_space: gives the display colours.
    """
    shown = folder.with_name(f"{folder.name}_colour")
    for name, labels in zip(names, label_maps, strict=True):
        pictures = {folder: labels.numpy().astype(np.uint8), shown: colour_labels(labels, label_space)}
        for place, pixels in pictures.items():
            target = place / f"{name}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(target)


def read_label_folder(source: Path, label_space: LabelSpace, size: tuple[int, int]) -> tuple[list[str], Tensor]:
    """Label PNGs of a folder and its subfolders in order, or the one file that `source` names.

    Args:
        source: holds file ids, as the data set's own label files do.
        label_space: translates them.
        size: (H, W) that they are brought to, by nearest neighbour.

    Returns:
        Paths below `source` without ending, and labels (N, H, W) int64 in [0, K) or 255.

    Raises:
        ValueError: if there is none, or one cannot be read.
    """
    paths = [source] if source.is_file() else sorted(source.rglob("*.png"))
    if not paths:
        raise ValueError(f"input={source} holds no label file (.png): give a label PNG or a folder of them")
    folder = source.parent if source.is_file() else source
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    maps = [resize_labels(read_labels(path, label_space), size) for path in paths]
    return names, torch.from_numpy(np.stack(maps)).long()


def spread_label_maps(datamodule: SegmentationDataModule, split: str, num: int) -> tuple[list[str], Tensor]:
    """At most `num` label maps spread evenly over a split, since neighbours in a film look alike.

    Returns:
        Their names, and labels (N, H, W) int64 in [0, K) or 255.
    """
    data = datamodule.dataset(split)
    places = np.unique(np.linspace(0, len(data) - 1, min(num, len(data))).round().astype(int))
    samples = [data[int(place)] for place in places]
    return [sample["name"] for sample in samples], torch.stack([sample["labels"] for sample in samples])
