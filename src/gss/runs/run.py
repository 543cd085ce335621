"""Runs a stage from its parts: data checked, networks assembled, trained, measured, and the result written."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
from torch import Tensor

from gss.assembly.artefact import PriorArtefact
from gss.assembly.build import build_segmenter, describe_prior, is_pixel_twin, load_autoencoder
from gss.assembly.vocabulary_selection import choose_tokens
from gss.data.datamodule import SegmentationDataModule
from gss.inference import build_inference
from gss.labels import LabelSpace
from gss.networks.backbone import TimmBackbone
from gss.objectives.conditioning import asked_codes, build_criterion, build_target_encoder
from gss.objectives.losses import class_weights, token_weights
from gss.pipeline import PIXEL_READOUT, token_stride
from gss.registry import lookup
from gss.runs.inverse_on_predictions import run_on_predictions
from gss.runs.prior import run_prior
from gss.runs.training import RunParts, build_trainer, ended_on_validation, fit, validate
from gss.stages.conditioning import ConditioningStage
from gss.stages.execution import prepare_network

log = logging.getLogger(__name__)


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
    runner = _runner(config["stage"])
    _check_token_model(config)
    if config["stage"]["name"] == "prior":
        parts.datamodule.evaluate_at_size()
    parts.datamodule.prepare_data()
    trainer = build_trainer(config, parts.callbacks, parts.loggers, parts.optimisation.gradient_clip)
    for logger in parts.loggers:
        logger.log_hyperparams(dict(config))
    try:
        result: dict[str, Any] = runner(config, parts, trainer)
    finally:
        for logger in parts.loggers:
            logger.finalize("finished")
    return {"objective": result[config["stage"]["monitor"]], **result}


def _runner(stage: Mapping[str, Any]) -> Callable[..., dict[str, Any]]:
    """What runs a stage: stage=prior in one of two ways."""
    if lookup({"prior": True, "conditioning": False}, "stage", stage["name"]):
        sources = {"reconstructions": run_prior, "predictions": run_on_predictions}
        source: Callable[..., dict[str, Any]] = lookup(sources, "stage.maskige_source", stage["maskige_source"])
        return source
    return _run_conditioning


def _check_token_model(config: Mapping[str, Any]) -> None:
    """Refuses a token model where none would be trained."""
    name, stage = config["token_model"]["name"], config["stage"]
    if name != "none" and (stage["name"] != "prior" or stage["maskige_source"] != "reconstructions"):
        raise ValueError(f"token_model={name} is trained by stage=prior, on the tokens of labels: leave it out here")


def _check_crop(config: Mapping[str, Any]) -> None:
    """Refuses crops of fewer tokens than a window of the fusion holds: attention would be over padding."""
    stride = token_stride(config["tokenizer"]["stride"], config["maskige"]["scale"])
    size, window = config["data"]["size"], config["fusion"]["window_size"]
    grid = [math.ceil(side / stride) for side in size]
    if config["fusion"]["depth"] and min(grid) < window:
        raise ValueError(
            f"data.size={list(size)} gives a grid of {grid[0]}x{grid[1]} tokens, smaller than a window of "
            f"fusion.window_size={window}: set fusion.window_size={min(grid)}, or a data.size of at least "
            f"{window * stride} pixels a side"
        )


def _say_weights(backbone: TimmBackbone, name: str) -> None:
    """Which weights training begins from: nobody should find out later that they were random."""
    millions = sum(weight.numel() for weight in backbone.parameters()) / 1e6
    log.info("stage=conditioning: backbone %s, %.1f M parameters, %s", name, millions, backbone.origin)


def _run_conditioning(config: Mapping[str, Any], parts: RunParts, trainer: L.Trainer) -> dict[str, Any]:
    _check_crop(config)
    datamodule, artefact = parts.datamodule, _artefact(config, parts.datamodule.label_space)
    autoencoder = None if artefact is None else load_autoencoder(artefact)
    readout = config["stage"]["readout"] if artefact else PIXEL_READOUT
    codes = asked_codes(config, autoencoder)
    of_classes, of_tokens = _weights(config, datamodule, codes)
    criterion = build_criterion(config, autoencoder, readout, of_classes, of_tokens)
    target_encoder = build_target_encoder(config["stage"], autoencoder, codes)
    device = trainer.strategy.root_device
    chosen = choose_tokens(config["head"], autoencoder, datamodule.label_batches("train"), device)
    segmenter = build_segmenter(config, datamodule.num_classes, autoencoder, codes, of_tokens, chosen.vocabulary)
    _say_weights(segmenter.network.backbone, config["backbone"]["name"])
    prepare_network(segmenter.network, config["hardware"])
    stage = ConditioningStage(
        segmenter,
        datamodule.label_space,
        parts.optimisation,
        {**_record(config, artefact), **chosen.figures},
        readout,
        criterion,
        target_encoder,
        inference=build_inference(config["inference"], datamodule.size, segmenter.network.stride),
    )
    last = fit(trainer, stage, datamodule, config["resume"])
    figures = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
    if not figures or not ended_on_validation(trainer):
        figures = validate(trainer, stage, datamodule)
    kept = {} if last is None else {"checkpoint": str(last)}
    told = kept.get("checkpoint", "not kept (callbacks.last)")
    log.info("stage=conditioning: mIoU %.4f, checkpoint %s", figures.get("val/miou", math.nan), told)
    return {**figures, **chosen.figures, **kept}


def _artefact(config: Mapping[str, Any], label_space: LabelSpace) -> PriorArtefact | None:
    """Stage one's artefact, which must fit the configuration; None for the pixel twin."""
    if is_pixel_twin(config):
        return None
    artefact = PriorArtefact.load(config["prior"]).without_token_model()
    artefact.check_matches(describe_prior(config, label_space))
    return artefact


def _weights(
    config: Mapping[str, Any], datamodule: SegmentationDataModule, codes: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """What a pixel of each class counts, (K,) float32, and a cell of each token, (V,) float32; None: all the same."""
    power = config["stage"]["class_balance"]
    if not power:
        return None, None
    of_classes = class_weights(datamodule.label_batches("train"), datamodule.num_classes, power)
    return of_classes, None if codes is None else token_weights(codes, of_classes)


def _record(config: Mapping[str, Any], artefact: PriorArtefact | None) -> dict[str, Any]:
    """What every checkpoint says of the training."""
    return {
        "config": dict(config),
        "prior": None if artefact is None else artefact.description,
        "ceiling": None if artefact is None else artefact.ceiling,
    }
