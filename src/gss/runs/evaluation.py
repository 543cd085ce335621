"""Scores a trained segmenter: Lightning's validation loop over a split, on one process or several."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gss.assembly.checkpoints import TrainedSegmenter
from gss.callbacks.progress import StepProgress
from gss.data.datamodule import SegmentationDataModule
from gss.labels import check_same_classes
from gss.metrics.confusion import Scores
from gss.metrics.scoreboard import Scoreboard, Tally, harmonic_mean
from gss.runs.training import build_trainer, prepare_network
from gss.stages.conditioning import ConditioningStage


def evaluate_segmenter(
    trained: TrainedSegmenter,
    datamodule: SegmentationDataModule,
    split: str,
    readout: str | None,
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """Figures of a split, as `metrics.json` holds them.

    Args:
        trained: the checkpoint.
        datamodule: must have the checkpoint's classes.
        split: of the data module.
        readout: argmax, expected or pixel; None: the trained one.
        config: with `hardware`, `paths` and, for what is to be other than in training, `inference`.

    Returns:
        What `board_figures` gives of the data module's own data set, and `others` of those elsewhere: None where a
        figure is undefined.

    Raises:
        ValueError: if the classes or the readout do not fit the checkpoint, or the data are at fault.
    """
    check_same_classes(
        "the checkpoint", trained.label_space.names, f"data={datamodule.name}", datamodule.label_space.names
    )
    chosen = trained.readout(readout)
    datamodule.eval_split = split
    prepare_network(trained.segmenter.network, config["hardware"])
    record = {"config": trained.config, "prior": trained.prior}
    stage = ConditioningStage(
        trained.segmenter,
        trained.label_space,
        None,
        record,
        chosen,
        thorough=True,
        inference=trained.inference(config["inference"]),
    )
    trainer = build_trainer(config, [StepProgress()], [])
    trainer.validate(stage, datamodule=datamodule, verbose=False)
    readouts, generative = trained.segmenter.readouts, trained.prior is not None
    return with_others(stage.boards, lambda board: board_figures(board, readouts, chosen, generative), "miou")


def board_figures(board: Scoreboard, readouts: Sequence[str], chosen: str, generative: bool) -> dict[str, Any]:
    """Figures of one data set.

    Args:
        board: what was counted.
        readouts: those that were scored.
        chosen: the one whose figures come first.
        generative: whether there is a ceiling.

    Returns:
        What `tally_figures` gives of the chosen readout, `ceiling, readout`, and `readouts` with the same of each.
    """
    figures = {name: tally_figures(board.tally(name)) for name in readouts}
    ceiling = or_none(board.tally("ceiling").scores().miou) if generative else None
    return {**figures[chosen], "ceiling": ceiling, "readout": chosen, "readouts": figures}


def tally_figures(tally: Tally) -> dict[str, Any]:
    """`Tally.figures` and `per_class`; where there are conditions, `conditions` by name and `condition_mean`."""
    figures: dict[str, Any] = {**plain_scores(tally.scores()), **_plain(tally.figures())}
    if tally.condition_names:
        figures["conditions"] = {name: plain_scores(found) for name, found in tally.by_condition().items()}
        figures["condition_mean"] = or_none(tally.condition_mean())
    return figures


def with_others(
    boards: Sequence[Scoreboard], figures_of: Callable[[Scoreboard], dict[str, Any]], headline: str
) -> dict[str, Any]:
    """Figures of the own data set; where there are others, theirs as `datasets` by name, and `harmonic_mean`.

    Args:
        boards: of all data sets, the own one first.
        figures_of: gives the figures of one.
        headline: the figure of which the harmonic mean over all data sets is taken.
    """
    own, *others = (figures_of(board) for board in boards)
    if not others:
        return own
    headlines = [math.nan if figures[headline] is None else figures[headline] for figures in (own, *others)]
    datasets = {board.name: figures for board, figures in zip(boards[1:], others, strict=True)}
    return {**own, "datasets": datasets, "harmonic_mean": or_none(harmonic_mean(headlines))}


def plain_scores(result: Scores) -> dict[str, Any]:
    """Scores as JSON holds them."""
    overall = _plain({"miou": result.miou, "macc": result.macc, "aacc": result.aacc})
    return {**overall, "per_class": _plain(result.per_class)}


def _plain(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: or_none(figure) for name, figure in figures.items()}


def or_none(figure: float) -> float | None:
    """The figure, or None where it is undefined (nan), for which JSON has no word."""
    return None if math.isnan(figure) else figure
