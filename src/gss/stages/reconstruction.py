"""Measures a finished stage one over a split: labels -> maskige -> tokens -> maskige -> labels, no photograph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gss.callbacks.progress import StepProgress
from gss.data.datamodule import SegmentationDataModule
from gss.labels import LabelSpace, check_same_classes
from gss.metrics import codebook_perplexity, codebook_usage
from gss.scoreboard import Scoreboard
from gss.stage_one import StageOne
from gss.stages.evaluation import or_none, tally_figures, with_others
from gss.stages.prior import PriorStage
from gss.stages.training import build_trainer
from gss.stages.worst import Reconstructed, WorstReconstructions


@dataclass(frozen=True)
class ReconstructionReport:
    """What was measured.

    Args:
        metrics: what `metrics.json` holds.
        token_counts: (V,) int64, how often each token occurs on the split.
        worst: the ten worst label maps, the worst first.
    """

    metrics: dict[str, Any]
    token_counts: Tensor
    worst: list[Reconstructed]


def measure_reconstruction(
    stage_one: StageOne, datamodule: SegmentationDataModule, split: str, config: Mapping[str, Any]
) -> ReconstructionReport:
    """Figures of a split at the data's size, and what there is to look at.

    Args:
        stage_one: the autoencoder.
        datamodule: must have its classes.
        split: of the data module.
        config: with `hardware` and `paths`.

    Raises:
        ValueError: if the classes do not fit, or the data are at fault.
    """
    check_same_classes(stage_one.source, stage_one.classes, f"data={datamodule.name}", datamodule.label_space.names)
    datamodule.eval_split = split
    datamodule.evaluate_at_size()
    stage = PriorStage(stage_one.autoencoder, datamodule.label_space, None, {})
    worst = WorstReconstructions(datamodule.label_space)
    trainer = build_trainer(config, [StepProgress(), worst], [])
    trainer.validate(stage, datamodule=datamodule, verbose=False)
    return ReconstructionReport(_metrics(stage, datamodule.label_space), stage.token_counts.compute(), worst.worst)


def _metrics(stage: PriorStage, label_space: LabelSpace) -> dict[str, Any]:
    """Figures in [0, 1] except the perplexity and the distance of colours; None where undefined."""
    boundary = zip(label_space.names, stage.boundary.compute().tolist(), strict=True)
    counts = stage.token_counts.compute()
    return {
        "mode": "reconstruction",
        **with_others(stage.boards, _ceiling_figures, "ceiling"),
        "boundary_f3": or_none(stage.boundary.mean()),
        "boundary_f3_per_class": {name: or_none(value) for name, value in boundary},
        "third_class_rate": or_none(float(stage.third_class.compute())),
        "vocab_size": len(counts),
        "codebook_usage": codebook_usage(counts),
        "codebook_perplexity": or_none(codebook_perplexity(counts)),
        "closest_pair": _closest_pair(stage, label_space),
    }


def _ceiling_figures(board: Scoreboard) -> dict[str, Any]:
    figures = tally_figures(board.tally("ceiling"))
    return {"ceiling": figures.pop("miou"), **figures}


def _closest_pair(stage: PriorStage, label_space: LabelSpace) -> dict[str, Any]:
    """Names and distance (0-255 scale) of the two colours that are least apart; the last colour is `ignored`."""
    first, second, distance = stage.autoencoder.transform.palette.closest_pair()
    names = [*label_space.names, "ignored"]
    return {"names": [names[first], names[second]], "distance": distance}
