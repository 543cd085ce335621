"""Scores a trained segmenter: Lightning's validation loop over a split, on one process or several."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gss.callbacks.progress import StepProgress
from gss.checkpoints import TrainedSegmenter
from gss.data.datamodule import SegmentationDataModule
from gss.metrics import Scores, scores
from gss.stages.conditioning import ConditioningStage
from gss.stages.run import build_trainer


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
        config: with `hardware` and `paths`.

    Returns:
        `miou, macc, aacc, ceiling, readout, per_class`, and `readouts` with the scores of each; figures in [0, 1],
        None where undefined.

    Raises:
        ValueError: if the classes or the readout do not fit the checkpoint, or the data are at fault.
    """
    if datamodule.label_space.names != trained.label_space.names:
        raise ValueError(
            f"the checkpoint knows the classes {list(trained.label_space.names)}, "
            f"but data={datamodule.name} has {list(datamodule.label_space.names)}"
        )
    chosen = trained.readout(readout)
    datamodule.eval_split = split
    record = {"config": trained.config, "prior": trained.prior}
    stage = ConditioningStage(trained.segmenter, trained.label_space, None, record, chosen)
    trainer = build_trainer(config, [StepProgress()], [])
    trainer.validate(stage, datamodule=datamodule, verbose=False)
    names = trained.label_space.names
    readouts = {name: _plain(scores(stage.confusion(name).compute(), names)) for name in trained.segmenter.readouts}
    ceiling = None if trained.prior is None else scores(stage.confusion("ceiling").compute(), names).miou
    return {**readouts[chosen], "ceiling": ceiling, "readout": chosen, "readouts": readouts}


def _plain(result: Scores) -> dict[str, Any]:
    per_class = {name: None if math.isnan(iou) else iou for name, iou in result.per_class.items()}
    return {"miou": result.miou, "macc": result.macc, "aacc": result.aacc, "per_class": per_class}
