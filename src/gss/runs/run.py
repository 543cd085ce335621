"""Runs a stage from its parts: data checked, networks assembled, trained, measured, and the result written."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import lightning as L
from torch import Tensor

from gss.assembly.artefact import PriorArtefact
from gss.assembly.build import build_segmenter, describe_prior, load_autoencoder
from gss.assembly.vocabulary_selection import choose_tokens
from gss.data.datamodule import SegmentationDataModule
from gss.inference import build_inference
from gss.objectives.conditioning import asked_codes, build_criterion, build_target_encoder
from gss.objectives.losses import class_weights, token_weights
from gss.pipeline import PIXEL_READOUT, token_stride
from gss.registry import lookup
from gss.runs.inverse_on_predictions import run_on_predictions
from gss.runs.prior import run_prior
from gss.runs.training import RunParts, build_trainer, ended_on_validation, fit, prepare_network, validate
from gss.stages.conditioning import ConditioningStage

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
    stage, token_model = config["stage"], config["token_model"]["name"]
    is_prior = lookup({"prior": True, "conditioning": False}, "stage", stage["name"])
    run, reconstructs = run_conditioning, False
    if is_prior:
        sources = {"reconstructions": run_prior, "predictions": run_on_predictions}
        run = lookup(sources, "stage.maskige_source", stage["maskige_source"])
        reconstructs = run is run_prior
        parts.datamodule.evaluate_at_size()
    if token_model != "none" and not reconstructs:
        raise ValueError(
            f"token_model={token_model} is trained by stage=prior, on the tokens of labels: leave it out here"
        )
    parts.datamodule.prepare_data()
    trainer = build_trainer(config, parts.callbacks, parts.loggers, parts.optimisation.gradient_clip)
    for logger in parts.loggers:
        logger.log_hyperparams(dict(config))
    try:
        result = run(config, parts, trainer)
    finally:
        for logger in parts.loggers:
            logger.finalize("finished")
    return {"objective": result[stage["monitor"]], **result}


def run_conditioning(config: Mapping[str, Any], parts: RunParts, trainer: L.Trainer) -> dict[str, Any]:
    """Trains the conditioning network in front of a frozen stage one, or its pixel twin without one.

    Args:
        config: the resolved configuration as plain data.
        parts: data module, optimisation, callbacks and loggers made from it.
        trainer: of `max_steps` steps.

    Returns:
        Validation figures by log key, `rows` of the head where tokens were selected, and `checkpoint`, if one is kept.

    Raises:
        ValueError: for any mistake in data or configuration.
    """
    _check_grid(config)
    datamodule, artefact = parts.datamodule, None  # the pixel twin, which has no token head, needs none
    if config["head"]["token"] is not None:
        artefact = PriorArtefact.load(config["prior"]).without_token_model()
        artefact.check_matches(describe_prior(config, datamodule.label_space))
    autoencoder = None if artefact is None else load_autoencoder(artefact)
    readout = config["stage"]["readout"] if artefact else PIXEL_READOUT
    codes = asked_codes(config, autoencoder)
    of_classes, of_tokens = _weights(config, datamodule, codes)
    criterion = build_criterion(config, autoencoder, readout, of_classes, of_tokens)
    target_encoder = build_target_encoder(config["stage"], autoencoder, codes)
    device = trainer.strategy.root_device
    chosen = choose_tokens(config["head"], autoencoder, datamodule.label_batches("train"), device)
    segmenter = build_segmenter(config, datamodule.num_classes, autoencoder, codes, of_tokens, chosen.vocabulary)
    backbone, name = segmenter.network.backbone, config["backbone"]["name"]
    millions = sum(weight.numel() for weight in backbone.parameters()) / 1e6
    # nobody should find out later that the weights were random
    log.info("stage=conditioning: backbone %s, %.1f M parameters, %s", name, millions, backbone.origin)
    prepare_network(segmenter.network, config["hardware"])
    made_of = {"prior": artefact and artefact.description, "ceiling": artefact and artefact.ceiling}
    stage = ConditioningStage(
        segmenter,
        datamodule.label_space,
        parts.optimisation,
        {"config": dict(config), **made_of, **chosen.figures},
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


def _check_grid(config: Mapping[str, Any]) -> None:
    """Refuses crops of fewer tokens than a shifted-window block takes: its attention would be over padding."""
    stride = token_stride(config["tokenizer"]["stride"], config["maskige"]["scale"])
    size, least = config["data"]["size"], config["fusion"]["window_size"]
    grid = [math.ceil(side / stride) for side in size]
    if config["fusion"]["depth"] and min(grid) < least:
        raise ValueError(
            f"data.size={list(size)} gives a grid of {grid[0]}x{grid[1]} tokens, smaller than a window of "
            f"fusion.window_size={least}: set fusion.window_size={min(grid)}, or a data.size of at least "
            f"{least * stride} pixels a side"
        )


def _weights(
    config: Mapping[str, Any], datamodule: SegmentationDataModule, codes: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """What a pixel of each class counts, (K,) float32, and a cell of each token, (V,) float32; None: all the same."""
    power = config["stage"]["class_balance"]
    if not power:
        return None, None
    of_classes = class_weights(datamodule.label_batches("train"), datamodule.num_classes, power)
    return of_classes, None if codes is None else token_weights(codes, of_classes)
