"""Trains the token model of stage=prior on what a finished autoencoder makes of the training labels."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gss.assembly.artefact import PriorArtefact
from gss.callbacks.averaging import AveragedWeights
from gss.callbacks.learning_rate import LearningRate
from gss.callbacks.progress import StepProgress
from gss.data.datamodule import SegmentationDataModule
from gss.data.dataset import EvaluationShard, SampleRequest, TrainingSampler
from gss.display.progress import track
from gss.pipeline import MaskigeAutoencoder
from gss.runs.label_generator import encode_map
from gss.runs.training import RunParts, build_trainer, fit_or_stop
from gss.stages.token_model import TokenBatch, TokenModelStage
from gss.token_model import build_token_model

NETWORK = ("name", "width", "depth", "heads", "dropout")

log = logging.getLogger(__name__)


class TokenGrids(Dataset[TokenBatch]):
    """Token grids (N, h, w) int64 as a data set, asked for by number."""

    def __init__(self, tokens: Tensor) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        """Count the grids."""
        return len(self.tokens)

    def __getitem__(self, request: SampleRequest | int) -> TokenBatch:
        """One grid (h, w) and its number."""
        index = request.index if isinstance(request, SampleRequest) else request
        return TokenBatch(tokens=self.tokens[index], number=torch.tensor(index))


def add_token_model(
    config: Mapping[str, Any], parts: RunParts, autoencoder: MaskigeAutoencoder, artefact: PriorArtefact
) -> dict[str, float]:
    """Trains `config["token_model"]` on a finished autoencoder, which stays as it is, and saves both as one artefact.

    Training maps are seen whole, as stage=prior measures them, and mirrored too where images are mirrored.

    Args:
        config: the resolved configuration as plain data.
        parts: gives labels, optimiser, loggers, and of the callbacks those that tell of progress or average weights.
        autoencoder: makes tokens of labels.
        artefact: of the autoencoder.

    Returns:
        `val/token_nll` in nats per masked token, and `val/token_perplexity`.
    """
    settings = config["token_model"]
    parts = parts.next_training(settings["learning_rate"], settings["max_steps"])
    telling = [one for one in parts.callbacks if isinstance(one, StepProgress | LearningRate | AveragedWeights)]
    parts = replace(parts, callbacks=list[Callback](telling))
    steps = {key: settings[key] for key in ("max_steps", "val_every")}
    trainer = build_trainer({**config, **steps}, parts.callbacks, parts.loggers, parts.optimisation.gradient_clip)
    labels = {split: _label_batches(parts.datamodule, split, trainer.is_global_zero) for split in ("train", "val")}
    train = token_grids(autoencoder, labels["train"], mirrored=parts.datamodule.augmentation.flip > 0)
    val = token_grids(autoencoder, labels["val"])
    network = {key: settings[key] for key in NETWORK}
    network |= {"vocab_size": autoencoder.tokenizer.vocab_size + 1, "grid": list(train.shape[1:])}
    model = build_token_model(**network)
    model.start_from(autoencoder.code_class_probs().flatten(1), train)
    record = {"config": dict(config), "prior": artefact.description}
    stage = TokenModelStage(model, parts.datamodule.label_space, parts.optimisation, record, config["seed"])
    loaders = _loaders(train, val, settings, config["seed"], trainer)
    fit_or_stop(trainer, stage, train_dataloaders=loaders[0], val_dataloaders=loaders[1])
    (figures,) = trainer.validate(stage, loaders[1], verbose=False)
    if trainer.is_global_zero:
        artefact.with_token_model(network, model.state_dict()).save(config["prior"])
        log.info("stage=prior: token model, %.3f nats per masked token, added", figures["val/token_nll"])
    return {key: float(value) for key, value in figures.items()}


def token_grids(autoencoder: MaskigeAutoencoder, label_batches: Iterable[Tensor], mirrored: bool = False) -> Tensor:
    """Tokens of all label maps, then, if asked for, of their mirror images.

    Args:
        autoencoder: put into evaluation mode.
        label_batches: each (B, H, W) int64 in [0, K) or 255.
        mirrored: whether mirror images are added.

    Returns:
        (N, h, w) int64 in [0, V].
    """
    autoencoder.eval()
    grids = [
        [encode_map(autoencoder, maps) for maps in (labels, labels.flip(-1))[: 1 + mirrored]]
        for labels in label_batches
    ]
    return torch.cat([tokens for views in zip(*grids, strict=True) for tokens in views])


def _label_batches(datamodule: SegmentationDataModule, split: str, tells: bool) -> Iterable[Tensor]:
    """Label maps of a split, with progress on the one process that tells."""
    batches = datamodule.label_batches(split)
    return track(batches, f"tokens of {split} labels", unit="batches") if tells else batches


def _loaders(
    train: Tensor, val: Tensor, settings: Mapping[str, Any], seed: int, trainer: L.Trainer
) -> tuple[DataLoader[TokenBatch], DataLoader[TokenBatch]]:
    """This process's share of the training's steps, and of the validation grids, each (N, h, w) int64."""
    rank, world_size, batch_size = trainer.global_rank, trainer.world_size, settings["batch_size"]
    batches = settings["max_steps"] * trainer.accumulate_grad_batches
    sampler = TrainingSampler(len(train), batch_size, batches, seed, rank=rank, world_size=world_size)
    shard = EvaluationShard(len(val), rank, world_size)
    return (
        DataLoader(TokenGrids(train), batch_size, sampler=sampler),
        DataLoader(TokenGrids(val), batch_size, sampler=shard),
    )
