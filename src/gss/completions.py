"""Label maps with a region erased, completed by stage one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gss.label_files import write_label_maps
from gss.label_prior import Drawing, LabelPrior
from gss.labels import IGNORE, LabelSpace
from gss.panels import Section, draw_sheet

SHOWN = 8  # maps on the contact sheet


def write_completions(
    prior: LabelPrior,
    label_space: LabelSpace,
    names: Sequence[str],
    label_maps: Tensor,
    erased: Tensor,
    draws: int,
    seed: int,
    drawing: Drawing,
    output: Path,
) -> dict[str, float | None]:
    """Erases a region, draws it anew, and writes `completions/`, `completions_colour/` and `completions.png`.

    Args:
        prior: what is drawn from.
        label_space: the classes.
        names: of the label maps.
        label_maps: (N, H, W) int64 in [0, K) or 255.
        erased: (h, w) bool, the cells of the region.
        draws: completions of each map, at least 1.
        seed: of the drawing.
        drawing: how.
        output: folder, made when missing.

    Returns:
        Shares in [0, 1] of the erased pixels, see `agreement`.
    """
    generator = prior.generator(seed)
    drawn = torch.stack([prior.complete(label_maps, erased, generator, drawing) for _ in range(draws)])
    numbered = [f"{name}_{number}" for number in range(1, draws + 1) for name in names]
    write_label_maps(output / "completions", numbered, drawn.flatten(0, 1), label_space)
    hidden, through = prior.pixels(erased), prior.labels(prior.tokens(label_maps))
    columns = {"given": label_maps, "erased": label_maps.masked_fill(hidden, IGNORE)}
    columns |= {f"completed {number}": maps for number, maps in enumerate(drawn, start=1)}
    columns["given, through tokens"] = through
    shown = min(SHOWN, len(names))
    maps = [kind[row] for row in range(shown) for kind in columns.values()]
    section = Section("label maps with a region erased", maps, list(columns) * shown)
    draw_sheet([section], label_space, len(columns)).save(output / "completions.png", optimize=True)
    return agreement(label_maps, hidden, drawn, through)


def agreement(given: Tensor, hidden: Tensor, drawn: Tensor, through: Tensor) -> dict[str, float | None]:
    """How often a drawn pixel has the class that was erased.

    Args:
        given: (N, H, W) int64 in [0, K) or 255, which is left out.
        hidden: (H, W) bool, what was erased.
        drawn: (draws, N, H, W) int64, completions.
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
        "completed": share(drawn, given),
        "control": share(drawn, given.roll(1, 0)) if len(given) > 1 else None,
        "through_tokens": share(through, given),
    }
