"""New label maps from stage one, and how unlike real ones they are."""

from __future__ import annotations

from functools import reduce
from pathlib import Path

import torch
from torch import Tensor

from gss.class_statistics import ClassStatistics, class_statistics, distances
from gss.data.datamodule import SegmentationDataModule
from gss.label_files import spread_label_maps, write_label_maps
from gss.label_prior import Drawing, LabelPrior
from gss.panels import Section, draw_sheet
from gss.token_model.controls import shuffled_across, shuffled_within

COLUMNS, SHOWN = 4, 8  # of the contact sheet: maps beside each other, and maps of each kind

Distances = dict[str, dict[str, float]]


def draw_samples(
    prior: LabelPrior, datamodule: SegmentationDataModule, num: int, seed: int, drawing: Drawing, output: Path
) -> Distances:
    """Draws label maps, writes `samples/`, `samples_colour/` and `samples.png`, and compares them with real ones.

    Args:
        prior: what is drawn from.
        datamodule: the data set that it was trained on.
        num: maps to draw, at least 1.
        seed: of the drawing.
        drawing: how.
        output: folder, made when missing.

    Returns:
        Distances in [0, 1] to all validation maps, by row of the comparison (see `compared`) and kind.
    """
    drawn = prior.labels(prior.draw(num, prior.generator(seed), drawing))
    write_label_maps(output / "samples", [f"{number:04d}" for number in range(num)], drawn, datamodule.label_space)
    _, real = spread_label_maps(datamodule, "val", SHOWN)
    sections = [Section("drawn", list(drawn[:SHOWN])), Section("real (validation)", list(real))]
    draw_sheet(sections, datamodule.label_space, COLUMNS).save(output / "samples.png", optimize=True)
    reference = _pooled(datamodule, "val")
    rows = compared(prior, drawn, spread_label_maps(datamodule, "train", num)[1], prior.generator(seed))
    num_classes = datamodule.num_classes
    return {name: distances(class_statistics(maps, num_classes), reference) for name, maps in rows.items()}


def compared(prior: LabelPrior, drawn: Tensor, real: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """The sets of label maps that are held against the validation maps, as many real ones as drawn ones.

    `real` is the floor: two sets of real maps differ too. `real, through tokens` is the least that any distribution
    over tokens can reach. The two controls are made of these tokens: `dealt among maps` keeps what is likely at each
    place and loses what belongs together; `shuffled in each map` keeps a map's own tokens and loses their places.

    Args:
        prior: decodes the tokens.
        drawn: (N, H, W) int64 in [0, K).
        real: (N, H, W) int64 in [0, K) or 255, training labels.
        generator: of the shuffling.
    """
    tokens = prior.tokens(real)
    return {
        "real": real,
        "real, through tokens": prior.labels(tokens),
        "drawn": drawn,
        "control: dealt among maps": prior.labels(shuffled_across(tokens, generator)),
        "control: shuffled in each map": prior.labels(shuffled_within(tokens, generator)),
    }


def _pooled(datamodule: SegmentationDataModule, split: str) -> ClassStatistics:
    """Statistics of a whole split, read piece by piece."""
    pieces = (class_statistics(labels, datamodule.num_classes) for labels in datamodule.label_batches(split))
    return reduce(ClassStatistics.plus, pieces)
