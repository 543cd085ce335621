"""A training step: our Trainer with ConditioningStage, progress and CSV log, against a bare PyTorch loop.

Both train a copy of the same network on the same batches. The bare step is taken by a callback at the end of
each of Lightning's steps, so the two alternate step by step: what runs from the end of one bare step to the
beginning of the next is one full turn of our loop (next batch, hooks, step, schedule, logging, progress).
"""

from __future__ import annotations

import copy
import io
import logging
import math
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bench.harness import Effort, Row, seconds
from bench.scenes import drawn_scenes, experiment, fitted_autoencoder, label_space
from gss.assembly.build import build_segmenter
from gss.callbacks.progress import StepProgress
from gss.cli.configuration import instantiate
from gss.objectives.conditioning import build_criterion, build_target_encoder, pixel_loss
from gss.objectives.divergence import token_divergence
from gss.objectives.targets import TargetEncoder
from gss.pipeline import GenerativeSegmenter
from gss.runs.training import build_trainer
from gss.stages.base import Batch
from gss.stages.conditioning import ConditioningStage
from gss.stages.optimisation import Optimisation

NUM_SCENES = 24  # enough distinct patches for 1024 codes; the batches are made of them too
BAR = 1 / 1.05  # at most a twentieth more time than the bare loop


def measure(effort: Effort) -> list[Row]:
    """Seconds per step of experiment=camvid_cpu with data in memory; the losses of all steps are the same."""
    steps = effort.warm_up + effort.repeats  # one repeat is one step of each loop
    config = experiment("camvid_cpu", f"max_steps={steps}")
    classes = label_space(config)
    images, labels = drawn_scenes(NUM_SCENES, tuple(config["data"]["size"]), classes.names)
    torch.manual_seed(0)
    segmenter = build_segmenter(config, classes.num_classes, fitted_autoencoder(config, labels))
    optimisation: Optimisation = instantiate(config["optim"])
    data = _data(images, labels, config["data"]["batch_size"], steps)
    turns = StepByStep(BareLoop(copy.deepcopy(segmenter), optimisation, config["stage"], data))
    readout, autoencoder = config["stage"]["readout"], segmenter.autoencoder
    parts = build_criterion(config, autoencoder, readout), build_target_encoder(config["stage"], autoencoder, None)
    stage = ConditioningStage(segmenter, classes, optimisation, {}, readout, *parts)
    _fit(stage, config, turns, data)
    ours, other = turns.ours[effort.warm_up :], turns.other[effort.warm_up :]
    assert len(ours) == effort.repeats, f"{len(turns.ours)} steps were taken, not {steps}"
    return [Row("training_loop", tuple(ours), tuple(other), "s/step", BAR)]


class BareLoop:
    """The step of `ConditioningStage` as one would write it without a framework."""

    def __init__(
        self,
        segmenter: GenerativeSegmenter,
        optimisation: Optimisation,
        stage: dict[str, Any],
        data: DataLoader[Batch],
    ) -> None:
        self.segmenter, self.encode = segmenter.train(), TargetEncoder(ignore_policy=stage["ignore_policy"])
        self.token_weight: float = stage["token_weight"]
        self.pixel_weight: float = stage["pixel_weight"]
        self.clip = optimisation.gradient_clip
        self.optimizer, self.schedule = optimisation.build(segmenter)
        # in Lightning's order: the norm of another order rounds otherwise, which steps to come enlarge a thousandfold
        self.moved = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        self.batches: Iterator[Batch] = iter(data)
        self.loss = torch.tensor(torch.nan)

    def step(self) -> None:
        """Takes the next batch and one step."""
        batch = next(self.batches)
        self.loss = self._loss(batch["image"], batch["labels"])
        self.optimizer.zero_grad()
        self.loss.backward()
        if self.clip:
            nn.utils.clip_grad_norm_(self.moved, self.clip)
        self.optimizer.step()
        self.schedule.step()

    def _loss(self, image: Tensor, labels: Tensor) -> Tensor:
        output, stage_one = self.segmenter.network(image), self.segmenter.autoencoder
        assert stage_one is not None
        assert output.prior is not None
        pixels = pixel_loss(output.pixel_logits, labels)
        targets = self.encode(stage_one, labels, output.pixel_logits)
        divergence = token_divergence(output.prior, targets)
        return self.token_weight * divergence + self.pixel_weight * pixels


class StepByStep(L.Callback):
    """Takes a bare step after each of Lightning's, compares the losses, and times both."""

    def __init__(self, bare: BareLoop) -> None:
        self.bare = bare
        self.ours: list[float] = []
        self.other: list[float] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock of the first step."""
        self._start = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        """Stops our clock, lets the bare loop take the same step, and starts ours again."""
        self.ours.append(time.perf_counter() - self._start)
        self.other.append(seconds(self.bare.step))
        ours, other = outputs["loss"].item(), self.bare.loss.item()
        alike = math.isclose(ours, other, rel_tol=1e-6)  # as a rule to the last bit
        assert alike, f"step {trainer.global_step}: our loss is {ours}, the bare loop's {other}"
        self._start = time.perf_counter()


def _data(images: Tensor, labels: Tensor, batch_size: int, steps: int) -> DataLoader[Batch]:
    """Ready batches, one per step: nothing is read or augmented while the clock runs."""
    generator = torch.Generator().manual_seed(0)
    picks = [torch.randperm(len(images), generator=generator)[:batch_size] for _ in range(steps)]
    batches = [Batch(image=images[pick], labels=labels[pick], name=list(map(str, pick))) for pick in picks]
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]  # a list is data set enough


def _fit(stage: ConditioningStage, config: dict[str, Any], turns: StepByStep, data: DataLoader[Batch]) -> None:
    with tempfile.TemporaryDirectory() as folder, _silence():
        settings = {**config, "paths": {**config["paths"], "run": folder}}
        logger = CSVLogger(folder, name="", version="")
        trainer = build_trainer(settings, [StepProgress(), turns], [logger], turns.bare.clip)
        with redirect_stdout(io.StringIO()):  # progress is told, but to nobody
            trainer.fit(stage.train(), train_dataloaders=data)


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps Lightning's remarks out of the table: for data in memory it would ask for worker processes."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
