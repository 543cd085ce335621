"""A run of stage=prior: colours chosen, tokenizer fitted or trained, then what paints and reads the colours."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L

from gss.assembly.build import arrange_palette, build_autoencoder, build_palette, describe_prior, take_tokenizer
from gss.assembly.checkpoints import load_checkpoint
from gss.data.datamodule import SegmentationDataModule
from gss.maskige.palette import Palette
from gss.maskige.transform import MaskigeTransform
from gss.metrics.phantom_classes import blurred_phantom_class_rate
from gss.objectives.losses import class_weights
from gss.objectives.transforms import check_learnable, learns
from gss.pipeline import MaskigeAutoencoder
from gss.runs.token_model import add_token_model
from gss.runs.training import RunParts, build_trainer, fit, validate
from gss.stages.phases import BoundaryCrops, Phase, TokenizerPhase, TransformsPhase
from gss.stages.prior import PriorStage, TrainingCost

REPORT_BATCHES = 8  # of validation labels on which an assignment of colours is reported

log = logging.getLogger(__name__)


def run_prior(config: Mapping[str, Any], parts: RunParts, trainer: L.Trainer) -> dict[str, Any]:
    """Makes a stage-one artefact with as many trainings as there are learned parts: up to three.

    A tokenizer that learns is trained first. What learns of the transforms (colours, inverse) is trained after it and
    on it, frozen, by a Trainer of its own. A token model comes last.

    Args:
        config: the resolved configuration as plain data.
        parts: data module, optimisation, callbacks and loggers made from it.
        trainer: for the tokenizer, of `max_steps` steps.

    Returns:
        Validation figures by log key, what it cost, and `prior`, the artefact's path.

    Raises:
        ValueError: for any mistake in data or configuration.
    """
    if config["checkpoint"] is not None:
        raise ValueError(f"checkpoint={config['checkpoint']} is read by stage.maskige_source=predictions alone")
    description = describe_prior(config, parts.datamodule.label_space)
    autoencoder = _untrained(config, description, parts.datamodule, trainer.is_global_zero)
    resumes_transforms = _resumes_transforms(config, autoencoder)
    fits, later, cost = config["stage"]["tokenizer_from"] is None, transforms_parts(config, parts), TrainingCost()

    def stage_of(phase: Phase, made_of: RunParts, fits: bool) -> PriorStage:
        """The module of one training."""
        record = {"config": dict(config), "prior": description}
        return PriorStage(autoencoder, parts.datamodule.label_space, made_of.optimisation, record, phase, fits, cost)

    trains = autoencoder.tokenizer.trainable and fits and not resumes_transforms
    stage = stage_of(_tokenizer_phase(config, autoencoder, parts.datamodule), parts, fits)
    if trains:
        autoencoder.tokenizer.load_weights()
        with cost.timed():
            fit(trainer, stage, parts.datamodule, config["resume"])
    if learns(autoencoder) and config["maskige"]["max_steps"]:
        settings = {key: config["maskige"][key] for key in ("token_temperature", "colour_jitter")}
        stage = stage_of(TransformsPhase(**settings), later, fits and not trains)
        trainer = fit_transforms(config, later, stage, config["resume"] if resumes_transforms else None)
    figures = validate(trainer, stage, parts.datamodule)
    if math.isnan(figures["val/ceiling"]):
        raise ValueError(
            "no validation pixel is labelled, so there is no ceiling: check the ignored ids in data.label_space"
        )
    artefact = stage.artefact(figures)
    if trainer.is_global_zero:
        artefact.save(config["prior"])
        log.info("stage=prior: ceiling %.4f, artefact %s", figures["val/ceiling"], config["prior"])
    if config["token_model"]["name"] != "none":
        figures |= add_token_model(config, parts, autoencoder, artefact)
    return {**figures, **trainer.strategy.broadcast(cost.figures()), "prior": config["prior"]}


def _tokenizer_phase(
    config: Mapping[str, Any], autoencoder: MaskigeAutoencoder, datamodule: SegmentationDataModule
) -> TokenizerPhase:
    """How a tokenizer is trained; what classes count is asked of the data only where it is trained on labels."""
    settings = {key: config["stage"][key] for key in ("commitment_weight", "cross_entropy_weight")}
    tokenizer, weights, crops = autoencoder.tokenizer, None, config["stage"]["windows"]
    if tokenizer.trainable and tokenizer.fitted:
        power = config["stage"]["class_balance"]
        weights = class_weights(datamodule.label_batches("train"), datamodule.num_classes, power)
    return TokenizerPhase(**settings, class_weights=weights, crops=BoundaryCrops(**crops) if crops else None)


def transforms_parts(config: Mapping[str, Any], parts: RunParts) -> RunParts:
    """The parts of the training of colours and inverse."""
    return parts.next_training(config["maskige"]["lr"], config["maskige"]["max_steps"])


def fit_transforms(config: Mapping[str, Any], parts: RunParts, stage: PriorStage, resume: str | None) -> L.Trainer:
    """Trains colours or inverse for `maskige.max_steps` steps, and gives the Trainer, with which to measure."""
    steps = parts.optimisation.max_steps
    trainer = build_trainer(
        {**config, "max_steps": steps}, parts.callbacks, parts.loggers, parts.optimisation.gradient_clip
    )
    parts.datamodule.max_steps = steps
    with stage.cost.timed():
        fit(trainer, stage, parts.datamodule, resume)
    return trainer


def _untrained(
    config: Mapping[str, Any], description: Mapping[str, Any], datamodule: SegmentationDataModule, tells: bool
) -> MaskigeAutoencoder:
    """The autoencoder before anything is fitted or trained, its tokenizer perhaps taken from another artefact."""
    in_class_order = build_palette(config, datamodule.label_space)  # each process chooses, and all find the same
    palette = arrange_palette(config, in_class_order, datamodule.label_batches("train"))
    autoencoder = build_autoencoder(description, palette)
    check_learnable(autoencoder, description["tokenizer"]["name"], description["inverse"]["name"])
    if tells:
        _report_palette(in_class_order, palette, datamodule)
    if (source := config["stage"]["tokenizer_from"]) is not None:
        autoencoder.tokenizer = take_tokenizer(source, description, palette)
    return autoencoder


def _resumes_transforms(config: Mapping[str, Any], autoencoder: MaskigeAutoencoder) -> bool:
    """Whether a run goes on with the training of colours or inverse, as its checkpoint says.

    Raises:
        ValueError: if there is no such training in this run.
    """
    resume = config["resume"]
    if resume is None or not Path(resume).is_file():  # a missing file is refused where it is to be read
        return False
    record = load_checkpoint(resume).get("gss", {})
    found: bool = record.get("phase") == TransformsPhase.name
    if found and not (learns(autoencoder) and config["maskige"]["max_steps"]):
        raise ValueError(f"resume={resume} is a training of colours or inverse, but this maskige learns neither")
    return found


def _report_palette(in_class_order: Palette, palette: Palette, datamodule: SegmentationDataModule) -> None:
    log.info("palette: the closest pair of colours is %.1f of 255 apart", palette.min_distance())
    if palette is in_class_order:
        return
    before, after = (
        blurred_phantom_class_rate(MaskigeTransform(arranged), islice(datamodule.label_batches("val"), REPORT_BATCHES))
        for arranged in (in_class_order, palette)
    )
    log.info("blurred boundaries read as a phantom class: %.4f in class order, %.4f as assigned", before, after)
