"""Runs a stage from its parts: data checked, networks assembled, trained, measured, and the result written."""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from gss.artefact import PriorArtefact
from gss.assembly import (
    arrange_palette,
    build_autoencoder,
    build_palette,
    build_segmenter,
    describe_prior,
    is_pixel_twin,
    load_autoencoder,
    lookup,
)
from gss.balance import class_weights, token_weights
from gss.callbacks.checkpoint_io import AtomicCheckpointIO
from gss.data.datamodule import SegmentationDataModule
from gss.maskige.palette import Palette
from gss.maskige.transform import MaskigeTransform
from gss.stages.base import Stage
from gss.stages.conditioning import ConditioningStage
from gss.stages.optimisation import Optimisation
from gss.stages.prior import PriorStage
from gss.third_class import blurred_third_class_rate

REPORT_BATCHES = 8  # of validation labels on which an assignment of colours is reported

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunParts:
    """What a run is made of besides the networks."""

    datamodule: SegmentationDataModule
    optimisation: Optimisation
    callbacks: list[Callback]
    loggers: list[Logger]


def run_stage(config: Mapping[str, Any], parts: RunParts) -> dict[str, Any]:
    """Runs `config["stage"]["name"]` and gives its figures.

    Args:
        config: the resolved configuration as plain data.
        parts: data module, optimisation, callbacks and loggers made from it.

    Returns:
        Validation figures by log key, `objective` (the monitored one), `checkpoint` or `prior`, and of this the cost.

    Raises:
        ValueError: for any mistake in data or configuration, before training starts.
    """
    L.seed_everything(config["seed"], verbose=False)
    runner = lookup({"prior": _run_prior, "conditioning": _run_conditioning}, "stage", config["stage"]["name"])
    parts.datamodule.prepare_data()
    trainer = build_trainer(config, parts.callbacks, parts.loggers, parts.optimisation.gradient_clip)
    for logger in parts.loggers:
        logger.log_hyperparams(dict(config))
    try:
        result: dict[str, Any] = runner(config, parts, trainer)
    finally:
        for logger in parts.loggers:
            logger.finalize("finished")
    result["objective"] = result[config["stage"]["monitor"]]
    return result


def build_trainer(
    config: Mapping[str, Any], callbacks: list[Callback], loggers: list[Logger], gradient_clip: float = 0.0
) -> L.Trainer:
    """A Trainer that counts steps, on the configured hardware.

    Raises:
        ValueError: if the hardware asks for an accelerator that is not there.
    """
    hardware = dict(config["hardware"])
    if hardware["accelerator"] == "gpu" and not torch.cuda.is_available():
        raise ValueError("hardware.accelerator=gpu, but no CUDA device was found: choose hardware=cpu")
    return L.Trainer(
        **hardware,
        max_steps=config.get("max_steps", -1),
        val_check_interval=min(config.get("val_every", 1), config.get("max_steps", 1)),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        gradient_clip_val=gradient_clip or None,
        callbacks=callbacks,
        logger=loggers,
        plugins=[AtomicCheckpointIO()],
        use_distributed_sampler=False,  # the data module shards, without padding in evaluation
        enable_model_summary=False,
        log_every_n_steps=10,
        default_root_dir=config["paths"]["run"],
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
    )


def _run_prior(config: Mapping[str, Any], parts: RunParts, trainer: L.Trainer) -> dict[str, Any]:
    label_space = parts.datamodule.label_space
    description = describe_prior(config, label_space)
    in_class_order = build_palette(config, label_space)  # each process chooses for itself, and all find the same
    palette = arrange_palette(config, in_class_order, parts.datamodule.label_batches("train"))
    if trainer.is_global_zero:
        _report_palette(in_class_order, palette, parts.datamodule)
    autoencoder = build_autoencoder(description, palette)
    record = {"config": dict(config), "prior": description}
    commitment = config["stage"]["commitment_weight"]
    stage = PriorStage(autoencoder, label_space, parts.optimisation, record, commitment)
    if autoencoder.tokenizer.trainable:
        autoencoder.tokenizer.load_weights()
        with stage.effort.timed():
            _fit(trainer, stage, parts.datamodule, config["resume"])
    figures = _validate(trainer, stage, parts.datamodule)
    if math.isnan(figures["val/ceiling"]):
        raise ValueError(
            "no validation pixel is labelled, so there is no ceiling: check the ignored ids in data.label_space"
        )
    if trainer.is_global_zero:
        stage.artefact(figures).save(config["prior"])
        log.info("stage=prior: ceiling %.4f, artefact %s", figures["val/ceiling"], config["prior"])
    return {**figures, **trainer.strategy.broadcast(stage.effort.figures()), "prior": config["prior"]}


def _report_palette(in_class_order: Palette, palette: Palette, datamodule: SegmentationDataModule) -> None:
    log.info("palette: the closest pair of colours is %.1f of 255 apart", palette.min_distance())
    if palette is in_class_order:
        return
    before, after = (
        blurred_third_class_rate(MaskigeTransform(arranged), islice(datamodule.label_batches("val"), REPORT_BATCHES))
        for arranged in (in_class_order, palette)
    )
    log.info("blurred boundaries read as a third class: %.4f in class order, %.4f as assigned", before, after)


def _run_conditioning(config: Mapping[str, Any], parts: RunParts, trainer: L.Trainer) -> dict[str, Any]:
    datamodule, artefact = parts.datamodule, None
    if not is_pixel_twin(config):
        artefact = PriorArtefact.load(config["prior"])
        artefact.check_matches(describe_prior(config, datamodule.label_space))
    autoencoder = None if artefact is None else load_autoencoder(artefact)
    weights = codes = of_tokens = None
    if balance := config["stage"]["class_balance"]:
        weights = class_weights(datamodule.label_batches("train"), datamodule.num_classes, balance)
        if autoencoder is not None:
            codes = autoencoder.code_class_probs()
            of_tokens = token_weights(codes, weights)
    segmenter = build_segmenter(config, datamodule.num_classes, autoencoder, codes, of_tokens)
    record = {
        "config": dict(config),
        "prior": None if artefact is None else artefact.description,
        "ceiling": None if artefact is None else artefact.ceiling,
    }
    settings = {key: config["stage"][key] for key in ("ignore_policy", "token_weight", "pixel_weight")}
    readout = config["stage"]["readout"] if artefact else "pixel"
    settings |= {"class_weights": weights, "token_weights": of_tokens}
    stage = ConditioningStage(segmenter, datamodule.label_space, parts.optimisation, record, readout, **settings)
    last = _fit(trainer, stage, datamodule, config["resume"])
    figures = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
    if not figures or trainer.global_step % int(trainer.val_check_interval):
        figures = _validate(trainer, stage, datamodule)
    kept = {} if last is None else {"checkpoint": str(last)}
    told = kept.get("checkpoint", "not kept (callbacks.last)")
    log.info("stage=conditioning: mIoU %.4f, checkpoint %s", figures.get("val/miou", math.nan), told)
    return {**figures, **kept}


def _fit(trainer: L.Trainer, stage: Stage, datamodule: SegmentationDataModule, resume: str | None) -> Path | None:
    """Trains; gives the checkpoint of the last step, or None where no callback keeps one (`callbacks=none`)."""
    if resume is not None and not Path(resume).is_file():
        raise ValueError(f"resume={resume} is not a file: give the checkpoint of a run, e.g. checkpoints/last.ckpt")
    try:
        trainer.fit(stage, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    except SIGTERMException as stop:  # a SystemExit without a code, which the shell would take for success
        log.error("stopped by SIGTERM after step %d of %d", trainer.global_step, trainer.max_steps)
        raise SystemExit(128 + signal.SIGTERM) from stop
    last = None
    for callback in trainer.checkpoint_callbacks:
        # a training that does not end on a validation step would leave its last steps out of last.ckpt
        if isinstance(callback, ModelCheckpoint) and callback.dirpath and _keeps_the_newest(callback):
            last = Path(callback.dirpath) / f"{callback.filename}.ckpt"
            trainer.save_checkpoint(last, weights_only=False)
    return last


def _keeps_the_newest(callback: ModelCheckpoint) -> bool:
    return callback.monitor is None and callback.save_top_k == 1


def _validate(trainer: L.Trainer, stage: Stage, datamodule: SegmentationDataModule) -> dict[str, float]:
    (figures,) = trainer.validate(stage, datamodule=datamodule, verbose=False)
    return {key: float(value) for key, value in figures.items()}
