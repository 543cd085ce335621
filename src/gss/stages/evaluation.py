"""Scores a trained segmenter: Lightning's validation loop over a split, on one process or several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gss.callbacks.progress import StepProgress
from gss.checkpoints import TrainedSegmenter
from gss.data.datamodule import SegmentationDataModule
from gss.metrics import Scores, scores
from gss.stages.conditioning import ConditioningStage
from gss.stages.execution import prepare_network
from gss.stages.training import build_trainer


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
        `miou, macc, aacc, boundary_f3, ceiling, readout, per_class`, and `readouts` with the scores of each; in [0, 1],
        None where undefined.

    Raises:
        ValueError: if the classes or the readout do not fit the checkpoint, or the data are at fault.
    """
    check_classes("the checkpoint", trained.label_space.names, datamodule)
    chosen = trained.readout(readout)
    datamodule.eval_split = split
    prepare_network(trained.segmenter.network, config["hardware"])
    record = {"config": trained.config, "prior": trained.prior}
    inference = trained.inference(config["inference"])
    stage = ConditioningStage(trained.segmenter, trained.label_space, None, record, chosen, inference=inference)
    trainer = build_trainer(config, [StepProgress()], [])
    trainer.validate(stage, datamodule=datamodule, verbose=False)
    names = trained.label_space.names
    readouts = {
        name: {
            **plain_scores(scores(stage.confusion(name).compute(), names)),
            "boundary_f3": or_none(stage.boundary(name).mean()),
        }
        for name in trained.segmenter.readouts
    }
    ceiling = None if trained.prior is None else scores(stage.confusion("ceiling").compute(), names).miou
    return {**readouts[chosen], "ceiling": ceiling, "readout": chosen, "readouts": readouts}


def check_classes(source: str, known: Sequence[str], datamodule: SegmentationDataModule) -> None:
    """Refuses data of other classes than those that a file, called `source` in the message, was made for.

    Raises:
        ValueError: with both lists of names.
    """
    if list(datamodule.label_space.names) != list(known):
        raise ValueError(
            f"{source} knows the classes {list(known)}, "
            f"but data={datamodule.name} has {list(datamodule.label_space.names)}"
        )


def plain_scores(result: Scores) -> dict[str, Any]:
    """Scores as JSON holds them."""
    per_class = {name: or_none(iou) for name, iou in result.per_class.items()}
    return {"miou": result.miou, "macc": result.macc, "aacc": result.aacc, "per_class": per_class}


def or_none(figure: float) -> float | None:
    """The figure, or None where it is undefined (nan), for which JSON has no word."""
    return None if math.isnan(figure) else figure
