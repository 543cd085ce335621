"""stage=prior with stage.maskige_source=predictions: X^-1 learns to read what a trained network generates."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L

from gss.assembly.build import describe_prior, with_inverse
from gss.assembly.checkpoints import READING, exchange_inverse, read_checkpoint, restore_segmenter, save_checkpoint
from gss.labels import check_same_classes
from gss.objectives.transforms import check_inverse_learns
from gss.pipeline import MaskigeAutoencoder
from gss.runs.prior import fit_transforms, transforms_parts
from gss.runs.training import RunParts, validate
from gss.stages.phases import PredictionsPhase
from gss.stages.prior import PriorStage

CHECKPOINT = "conditioning.ckpt"  # in the run's folder

log = logging.getLogger(__name__)


def run_on_predictions(config: Mapping[str, Any], parts: RunParts, trainer: L.Trainer) -> dict[str, Any]:
    """Trains the configured inverse for the network of `checkpoint`, with that checkpoint's tokenizer and colours.

    The released FT-W was made so. The network is measured before with the inverse that it had, and after.

    Args:
        config: the resolved configuration as plain data.
        parts: data module, optimisation, callbacks and loggers made from it.
        trainer: measures before.

    Returns:
        Validation figures by log key; `val/miou_before`; what it cost; `prior`, the artefact with the inverse; and
        `checkpoint`, the conditioning checkpoint with it.

    Raises:
        ValueError: for any mistake in data or configuration.
    """
    if config["maskige"]["max_steps"] < 1:
        raise ValueError(
            "stage.maskige_source=predictions trains the inverse for maskige.max_steps steps, got "
            f"{config['maskige']['max_steps']}: give at least 1"
        )
    checkpoint, space = _generative_checkpoint(config["checkpoint"]), parts.datamodule.label_space
    known = checkpoint["gss"]["label_space"]["names"]
    check_same_classes("the checkpoint", known, f"data={parts.datamodule.name}", space.names)
    segmenter, readout = restore_segmenter(checkpoint), checkpoint["gss"]["config"]["stage"]["readout"]
    assert segmenter.autoencoder is not None
    here = describe_prior(config, space)  # the checkpoint's own description, but for how colours are read
    description = {**checkpoint["gss"]["prior"], **{key: here[key] for key in READING}}
    exchanged = with_inverse(segmenter.autoencoder, description)
    names = description["tokenizer"]["name"], description["inverse"]["name"]
    check_inverse_learns(exchanged, *names, "stage.maskige_source=predictions")

    def stage_of(autoencoder: MaskigeAutoencoder, made_of: RunParts) -> PriorStage:
        """The module with one inverse or the other."""
        record = {"config": dict(config), "prior": description}
        phase = PredictionsPhase(segmenter.network, readout, config["maskige"]["colour_jitter"])
        return PriorStage(autoencoder, space, made_of.optimisation, record, phase)

    later = transforms_parts(config, parts)
    before = validate(trainer, stage_of(segmenter.autoencoder, parts), parts.datamodule)
    stage = stage_of(exchanged, later)
    trainer = fit_transforms(config, later, stage, config["resume"])
    figures = validate(trainer, stage, parts.datamodule)
    log.info("predictions read: mIoU %.4f before, %.4f after", before["val/miou"], figures["val/miou"])
    target = Path(config["paths"]["run"]) / CHECKPOINT
    if trainer.is_global_zero:
        artefact = stage.artefact(figures)
        artefact.save(config["prior"])
        save_checkpoint(exchange_inverse(checkpoint, artefact, config), target)
        log.info("stage=prior: artefact %s, checkpoint %s", config["prior"], target)
    made = {"prior": config["prior"], "checkpoint": str(target), "objective": figures["val/miou"]}
    cost = trainer.strategy.broadcast(stage.cost.figures())
    return {**figures, "val/miou_before": before["val/miou"], **cost, **made}


def _generative_checkpoint(path: str | None) -> dict[str, Any]:
    """What a checkpoint file holds, if its network generates maskiges."""
    if path is None:
        raise ValueError(
            "stage.maskige_source=predictions reads what a trained network generates: give checkpoint=PATH of a "
            "stage=conditioning run"
        )
    checkpoint = read_checkpoint(path)
    if "prior" in checkpoint.get("gss", {}) and checkpoint["gss"]["prior"] is None:
        raise ValueError(f"checkpoint={path} is of a pixel twin, which generates no maskige: give another one")
    return checkpoint
