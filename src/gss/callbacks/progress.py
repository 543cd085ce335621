"""StepProgress: Lightning's loops counted in steps, with the time left; bars on a terminal, else lines."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar
from torch import Tensor

from gss.display.progress import Display, Task, choose_display

QUIET_SECONDS = 20.0  # a validation inside training gets plain lines only while it lasts longer than this


class StepProgress(ProgressBar):
    """Say what is being done and how long is left, for example `stage=conditioning training 120/500 steps`.

    Counts optimiser steps out of `max_steps`, so that a resumed run goes on where it stopped, and takes the
    time left from the mean pace of this run, validations included. Picks bars or lines by itself. A module
    may have an attribute `stage_name`.

    Args:
        display: where to show it; None looks at the console when the run begins.
    """

    def __init__(self, display: Display | None = None) -> None:
        super().__init__()
        self._display = display
        self._enabled = True
        self._training: Task | None = None
        self._evaluation: Task | None = None  # a validation, test or prediction, perhaps within the training
        self._batches = 0

    def disable(self) -> None:
        """Show nothing; Lightning asks for this on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show progress again."""
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the task of the whole training."""
        if self._enabled:
            description, steps = _describe(pl_module, "training"), _total_steps(trainer)
            self._training = self._shown().task(description, steps, "steps", completed=trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the step."""
        if self._training is not None:
            self._training.update(trainer.global_step, lambda: _note(trainer, outputs))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the task of the training."""
        self._finish()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a validation, or Lightning's check of it before training."""
        if trainer.sanity_checking:
            self._begin(pl_module, "validation check", trainer.num_sanity_val_batches, QUIET_SECONDS)
        else:
            quiet_seconds = QUIET_SECONDS if trainer.state.fn == "fit" else 0.0
            self._begin(pl_module, "validation", trainer.num_val_batches, quiet_seconds)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a test."""
        self._begin(pl_module, "test", trainer.num_test_batches)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a prediction."""
        self._begin(pl_module, "prediction", trainer.num_predict_batches)

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Count the batch."""
        self._count_batch()

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Count the batch."""
        self._count_batch()

    def on_predict_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Count the batch."""
        self._count_batch()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the validation."""
        self._finish_evaluation()

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the test."""
        self._finish_evaluation()

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the prediction."""
        self._finish_evaluation()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the terminal back before the error is printed."""
        self._finish()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """End what is still under way."""
        self._finish()

    def _shown(self) -> Display:
        self._display = self._display or choose_display()
        return self._display

    def _begin(self, pl_module: pl.LightningModule, what: str, batches: Any, quiet_seconds: float = 0.0) -> None:
        self._finish_evaluation()
        self._batches = 0
        if self._enabled:
            total, description = _total_batches(batches), _describe(pl_module, what)
            self._evaluation = self._shown().task(description, total, "batches", quiet_seconds=quiet_seconds)

    def _count_batch(self) -> None:
        self._batches += 1
        if self._evaluation is not None:
            self._evaluation.update(self._batches)

    def _finish_evaluation(self) -> None:
        if self._evaluation is not None:
            self._evaluation.finish()
            self._evaluation = None

    def _finish(self) -> None:
        self._finish_evaluation()
        if self._training is not None:
            self._training.finish()
            self._training = None


def _describe(pl_module: pl.LightningModule, what: str) -> str:
    stage = getattr(pl_module, "stage_name", None)
    return f"stage={stage} {what}" if stage else what


def _total_batches(batches: float | list[int | float]) -> int | None:
    """Add up the batches of all loaders; None if one of them is endless."""
    total = sum(batches) if isinstance(batches, list) else batches
    return int(total) if math.isfinite(total) else None


def _total_steps(trainer: pl.Trainer) -> int | None:
    """Give the optimiser steps of the whole run, from max_steps, else from max_epochs; None if endless."""
    if trainer.max_steps > 0:
        return int(trainer.max_steps)
    if trainer.max_epochs is None or trainer.max_epochs < 0 or not math.isfinite(trainer.num_training_batches):
        return None
    steps_per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    return int(trainer.max_epochs * steps_per_epoch)


def _note(trainer: pl.Trainer, outputs: Any) -> str:
    """Write what was logged for the progress bar, and the step's loss unless it is there: `loss 2.31`."""
    metrics: dict[str, Any] = dict(trainer.progress_bar_metrics)
    loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
    if isinstance(loss, Tensor) and not any(key.startswith("train/loss") for key in metrics):
        metrics = {"loss": loss.item(), **metrics}
    return ", ".join(f"{key.removeprefix('train/')} {float(value):.3g}" for key, value in metrics.items())
