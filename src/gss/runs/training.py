"""A training: what it is made of, the hardware that it runs on, and how it is run, resumed, stopped and measured."""

from __future__ import annotations

import copy
import importlib.util
import logging
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn

from gss.assembly.checkpoints import load_checkpoint, remove_checkpoint, save_checkpoint
from gss.data.datamodule import SegmentationDataModule
from gss.networks.conditioning import ConditioningNetwork
from gss.stages.base import Stage
from gss.stages.optimisation import Optimisation

OWN_KEYS = ("compile", "channels_last")  # of the group hardware; all others are the Trainer's

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunParts:
    """What a run is made of besides the networks."""

    datamodule: SegmentationDataModule
    optimisation: Optimisation
    callbacks: list[Callback]
    loggers: list[Logger]

    def next_training(self, lr: float, max_steps: int) -> RunParts:
        """The parts of one more training in the same run, with its own learning rate and length in steps.

        Checkpoint callbacks are copies, to be taken before the first training: they remember its best figure and
        its last step, and would pass over those of the second.
        """
        optimizer = partial(self.optimisation.optimizer, lr=lr)
        callbacks = [copy.deepcopy(one) if isinstance(one, ModelCheckpoint) else one for one in self.callbacks]
        return replace(
            self, optimisation=replace(self.optimisation, optimizer=optimizer, max_steps=max_steps), callbacks=callbacks
        )


class AtomicCheckpointIO(CheckpointIO):
    """Lightning's checkpoints as `gss.assembly.checkpoints` writes and reads them.

    Lightning's own writer goes through the temporary folder and copies when that lies on another disk, and never asks
    the disk to finish. Of its arguments, the options of a storage are not used, and files are read with
    `weights_only=True`, whatever the caller asks for.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Writes a checkpoint and its sha256, both whole or not at all."""
        save_checkpoint(checkpoint, path)

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Reads a checkpoint that fits its sha256; nothing in it can run code."""
        return load_checkpoint(path, map_location)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes a checkpoint and its sha256."""
        remove_checkpoint(path)


def build_trainer(
    config: Mapping[str, Any], callbacks: list[Callback], loggers: list[Logger], gradient_clip: float = 0.0
) -> L.Trainer:
    """A Trainer that counts steps, on the configured hardware.

    `max_steps` and `val_every` are steps of the optimiser, each of which takes `hardware.accumulate_grad_batches`
    batches; Lightning counts batches between validations.

    Raises:
        ValueError: if the hardware asks for an accelerator that is not there, or less than one batch per step.
    """
    hardware = {key: value for key, value in config["hardware"].items() if key not in OWN_KEYS}
    batches = hardware.setdefault("accumulate_grad_batches", 1)
    if type(batches) is not int or batches < 1:
        raise ValueError(f"hardware.accumulate_grad_batches must be a whole number of at least 1, got {batches}")
    if hardware["accelerator"] == "gpu" and not torch.cuda.is_available():
        raise ValueError("hardware.accelerator=gpu, but no CUDA device was found: choose hardware=cpu")
    if logging.getLogger().handlers:  # they print, as a command's do: with Lightning's own, each line would come twice
        logging.getLogger("lightning").handlers.clear()
    return L.Trainer(
        **hardware,
        max_steps=config.get("max_steps", -1),
        val_check_interval=min(config.get("val_every", 1), config.get("max_steps", 1)) * batches,
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


def prepare_network(network: ConditioningNetwork, hardware: Mapping[str, Any]) -> None:
    """Makes a network run as the group hardware says, in place; names and values of its weights stay the same.

    Args:
        network: its backbone and fusion are compiled; the heads, whose work depends on the labels, are not.
        hardware: with the keys accelerator, `compile` and `channels_last`, of which the last two may be left out.

    Raises:
        ValueError: if it is to be compiled and there is no compiler.
    """
    if hardware.get("channels_last", False):
        network.to(memory_format=torch.channels_last)
        network.register_forward_pre_hook(_images_last)
    if hardware.get("compile", False):
        if hardware["accelerator"] == "gpu":
            found, needed = importlib.util.find_spec("triton") is not None, "the package triton"
        else:
            needed = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
            found = shutil.which(needed) is not None
        if not found:
            raise ValueError(
                f"hardware.compile=true needs {needed}, which was not found: install it, or set hardware.compile=false"
            )
        for part in (network.backbone, network.fusion):
            part.compile()


def fit(trainer: L.Trainer, stage: Stage, datamodule: SegmentationDataModule, resume: str | None) -> Path | None:
    """Trains; gives the checkpoint of the last step, or None where no callback keeps one (`callbacks=none`)."""
    if resume is not None and not Path(resume).is_file():
        raise ValueError(f"resume={resume} is not a file: give the checkpoint of a run, e.g. checkpoints/last.ckpt")
    fit_or_stop(trainer, stage, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    last = None
    for callback in trainer.checkpoint_callbacks:
        # a training that does not end on a validation step would leave its last steps out of last.ckpt
        if (
            isinstance(callback, ModelCheckpoint)
            and callback.dirpath
            and (callback.monitor, callback.save_top_k) == (None, 1)  # it keeps the newest
        ):
            last = Path(callback.dirpath) / f"{callback.filename}.ckpt"
            trainer.save_checkpoint(last, weights_only=False)
    return last


def ended_on_validation(trainer: L.Trainer) -> bool:
    """Whether the last step of a training was one that validation follows."""
    return trainer.global_step * trainer.accumulate_grad_batches % int(trainer.val_check_interval) == 0


def fit_or_stop(trainer: L.Trainer, stage: Stage, **arguments: Any) -> None:
    """`trainer.fit` with these arguments; SIGTERM ends the program with 143."""
    try:
        trainer.fit(stage, **arguments)
    except SIGTERMException as stop:  # a SystemExit without a code, which the shell would take for success
        log.error("stopped by SIGTERM after step %d of %d", trainer.global_step, trainer.max_steps)
        raise SystemExit(128 + signal.SIGTERM) from stop


def validate(trainer: L.Trainer, stage: Stage, datamodule: SegmentationDataModule) -> dict[str, float]:
    """Figures of the validation split by log key; each loader's answer holds those of all."""
    figures, *_ = trainer.validate(stage, datamodule=datamodule, verbose=False)
    return {key: float(value) for key, value in figures.items()}


def _images_last(network: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Brings images (B, 3, H, W) into the order in which a pixel's channels lie side by side."""
    image, *others = arguments
    return image.contiguous(memory_format=torch.channels_last), *others
