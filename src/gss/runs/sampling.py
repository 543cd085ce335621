"""New label maps from stage one, and label maps with a region erased and completed: written, and compared to real ones.

Label maps are written as PNGs of train ids, with a picture of each in display colours beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gss.data.datamodule import SegmentationDataModule
from gss.data.reading import read_labels
from gss.data.transforms import resize_labels
from gss.display import Section, draw_sheet
from gss.display.colours import colour_labels
from gss.labels import IGNORE, LabelSpace
from gss.metrics.label_statistics import ClassStatistics, class_statistics, distances
from gss.runs.label_generator import LabelGenerator, SamplingSettings
from gss.token_model.sampling import permuted_across_grids, permuted_within_grids

COLUMNS = 4  # of the contact sheet of new maps
SHOWN = 8  # maps of each kind on a contact sheet

Distances = dict[str, dict[str, float]]


def write_samples(
    label_generator: LabelGenerator,
    datamodule: SegmentationDataModule,
    num: int,
    seed: int,
    settings: SamplingSettings,
    output: Path,
) -> Distances:
    """Samples label maps, writes `samples/`, `samples_colour/` and `samples.png`, and compares them with real ones.

    Args:
        label_generator: what is sampled from.
        datamodule: the data set that it was trained on.
        num: maps to sample, at least 1.
        seed: of the sampling.
        settings: how.
        output: folder, made when missing.

    Returns:
        Distances in [0, 1] to all validation maps, by row of the comparison (see `_compared`) and kind.
    """
    sampled = label_generator.labels(label_generator.sample(num, label_generator.random_numbers(seed), settings))
    _write_label_maps(output / "samples", [f"{number:04d}" for number in range(num)], sampled, datamodule.label_space)
    _, real = spread_label_maps(datamodule, "val", SHOWN)
    sections = [Section("drawn", list(sampled[:SHOWN])), Section("real (validation)", list(real))]
    draw_sheet(sections, datamodule.label_space, COLUMNS).save(output / "samples.png", optimize=True)
    num_classes = datamodule.num_classes
    pieces = (class_statistics(labels, num_classes) for labels in datamodule.label_batches("val"))
    reference = reduce(ClassStatistics.plus, pieces)
    _, trained_on = spread_label_maps(datamodule, "train", num)
    rows = _compared(label_generator, sampled, trained_on, label_generator.random_numbers(seed))
    return {name: distances(class_statistics(maps, num_classes), reference) for name, maps in rows.items()}


def _compared(
    label_generator: LabelGenerator, sampled: Tensor, real: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """The sets of label maps that are held against the validation maps, as many real ones as sampled ones.

    `real` is the floor: two sets of real maps differ too. `real, through tokens` is the least that any distribution
    over tokens can reach. The two controls are made of these tokens: permuted across maps they keep what is likely at
    each place and lose what belongs together; shuffled in each map they keep a map's own tokens and lose their places.

    Args:
        label_generator: decodes the tokens.
        sampled: (N, H, W) int64 in [0, K).
        real: (N, H, W) int64 in [0, K) or 255, training labels.
        generator: of the shuffling.
    """
    tokens = label_generator.tokens(real)
    return {
        "real": real,
        "real, through tokens": label_generator.labels(tokens),
        "drawn": sampled,
        "control: dealt among maps": label_generator.labels(permuted_across_grids(tokens, generator)),
        "control: shuffled in each map": label_generator.labels(permuted_within_grids(tokens, generator)),
    }


def write_completions(
    label_generator: LabelGenerator,
    label_space: LabelSpace,
    names: Sequence[str],
    label_maps: Tensor,
    erased: Tensor,
    num: int,
    seed: int,
    settings: SamplingSettings,
    output: Path,
) -> dict[str, float | None]:
    """Erases a region, samples it, and writes `completions/`, `completions_colour/` and `completions.png`.

    Args:
        label_generator: what is sampled from.
        label_space: the classes.
        names: of the label maps.
        label_maps: (N, H, W) int64 in [0, K) or 255.
        erased: (h, w) bool, the cells of the region.
        num: completions of each map, at least 1.
        seed: of the sampling.
        settings: how.
        output: folder, made when missing.

    Returns:
        Shares in [0, 1] of the erased pixels, see `_agreement`.
    """
    generator = label_generator.random_numbers(seed)
    completed = torch.stack([label_generator.complete(label_maps, erased, generator, settings) for _ in range(num)])
    numbered = [f"{name}_{number}" for number in range(1, num + 1) for name in names]
    _write_label_maps(output / "completions", numbered, completed.flatten(0, 1), label_space)
    hidden, through = label_generator.pixels(erased), label_generator.labels(label_generator.tokens(label_maps))
    columns = {"given": label_maps, "erased": label_maps.masked_fill(hidden, IGNORE)}
    columns |= {f"completed {number}": maps for number, maps in enumerate(completed, start=1)}
    columns["given, through tokens"] = through
    shown = min(SHOWN, len(names))
    maps = [kind[row] for row in range(shown) for kind in columns.values()]
    section = Section("label maps with a region erased", maps, list(columns) * shown)
    draw_sheet([section], label_space, len(columns)).save(output / "completions.png", optimize=True)
    return _agreement(label_maps, hidden, completed, through)


def _agreement(given: Tensor, hidden: Tensor, completed: Tensor, through: Tensor) -> dict[str, float | None]:
    """How often a completed pixel has the class that was erased.

    Args:
        given: (N, H, W) int64 in [0, K) or 255, which is left out.
        hidden: (H, W) bool, what was erased.
        completed: (num, N, H, W) int64, completions.
        through: (N, H, W) int64, the given maps through tokens and back.

    Returns:
        `completed`; `control`, the completions of one map held against another map (None where there is one only);
        `through_tokens`, the most that can be reached. None too where no erased pixel has a class.
    """

    def share(predicted: Tensor, labels: Tensor) -> float | None:
        """Share of right pixels among the erased ones that have a class; labels (N, H, W) int64, as predicted."""
        counted = (hidden & (labels != IGNORE)).expand(predicted.shape)
        return float((predicted == labels)[counted].double().mean()) if counted.any() else None

    return {
        "completed": share(completed, given),
        "control": share(completed, given.roll(1, 0)) if len(given) > 1 else None,
        "through_tokens": share(through, given),
    }


def spread_label_maps(datamodule: SegmentationDataModule, split: str, num: int) -> tuple[list[str], Tensor]:
    """At most `num` label maps spread evenly over a split, since neighbours in a film look alike.

    Returns:
        Their names, and labels (N, H, W) int64 in [0, K) or 255.
    """
    data = datamodule.dataset(split)
    places = np.unique(np.linspace(0, len(data) - 1, min(num, len(data))).round().astype(int))
    samples = [data[int(place)] for place in places]
    return [sample["name"] for sample in samples], torch.stack([sample["labels"] for sample in samples])


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


def _write_label_maps(folder: Path, names: Sequence[str], label_maps: Tensor, label_space: LabelSpace) -> None:
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
