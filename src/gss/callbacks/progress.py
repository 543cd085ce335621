"""StepProgress: Lightning's rich progress bar, counted in optimiser steps; plain lines where there is no terminal."""

from __future__ import annotations

from time import monotonic
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import CustomProgress, RichProgressBarTheme
from rich.progress import ProgressColumn, Task, TaskID
from rich.text import Text

from gss.display.progress import QUIET_SECONDS, Lines, shows_bars, time_left

REFRESHES = 10  # of the bars, per second


class StepProgress(RichProgressBar):
    """Say what is being done and how long is left, for example `stage=conditioning training 120/500`.

    A training is one bar of optimiser steps out of `max_steps`, so that a resumed run goes on where it stopped; beside
    it stands what the module logs with `prog_bar=True`, such as the loss. A validation has its own bar while it lasts.
    Where the output is no terminal, the same is told in lines, about a validation within a training only if it takes
    long. A module may have an attribute `stage_name`. Ranks other than 0 say nothing.
    """

    def __init__(self) -> None:
        theme = RichProgressBarTheme(metrics_text_delimiter=", ", metrics_format=".3g")
        super().__init__(refresh_rate=REFRESHES, theme=theme)
        self._lines: dict[TaskID, Lines] = {}  # in the place of bars
        self._shown_at = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the one bar of the training, for a resumed one with the steps that are done."""
        super().on_train_start(trainer, pl_module)
        if self.is_enabled:
            total, done = trainer.estimated_stepping_batches, trainer.global_step
            self.train_progress_bar_id = self._add_task(total, self.train_description, completed=done)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on, where Lightning's bar would begin anew."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the step; bars move ten times a second at most, as reading a loss waits for the accelerator."""
        step, now = trainer.global_step, monotonic()
        if not self._lines:
            if now - self._shown_at < 1 / REFRESHES and step != trainer.max_steps:
                return
            self._shown_at = now
            self._update_metrics(trainer, pl_module)
        self._update(self.train_progress_bar_id, step)

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """What is logged for the progress bar; `train/loss` is called `loss`."""
        return {key.removeprefix("train/"): float(value) for key, value in trainer.progress_bar_metrics.items()}

    def configure_columns(self, trainer: pl.Trainer) -> list[ProgressColumn]:
        """Lightning's description, bar and count, then our own estimate of the time left."""
        return [*super().configure_columns(trainer)[:3], TimeLeft()]

    def _init_progress(self, trainer: pl.Trainer) -> None:
        """Let Lightning begin its bars; where lines are told, its hooks move bars that are not shown."""
        if self.progress is None or self._progress_stopped:
            self._lines = {}
            if self.is_enabled and not shows_bars():
                self._reset_progress_bar_ids()
                self.progress, self._progress_stopped = CustomProgress(disable=True), False
        super()._init_progress(trainer)

    def _add_task(self, total_batches: float, description: str, visible: bool = True, completed: int = 0) -> TaskID:
        """Begin to tell of a training, or of one loader of a validation, test or prediction."""
        assert self.progress is not None
        stage = getattr(self.trainer.lightning_module, "stage_name", None)
        what = f"stage={stage} {description.lower()}" if stage else description.lower()
        task_id = super()._add_task(total_batches, what, visible)
        self.progress.update(task_id, completed=completed, began_with=completed)
        if self.progress.disable:
            is_training = description == self.train_description
            unit, is_aside = "steps" if is_training else "batches", self.trainer.state.fn == "fit" and not is_training
            self._lines[task_id] = Lines(what, total_batches, unit, completed, QUIET_SECONDS if is_aside else 0.0)
        return task_id

    def _update(self, progress_bar_id: TaskID | None, current: int, visible: bool = True, hard: bool = False) -> None:
        """Move a bar, or tell a line."""
        if progress_bar_id in self._lines:
            tells_metrics = progress_bar_id == self.train_progress_bar_id
            self._lines[progress_bar_id].update(current, self._metrics_in_words if tells_metrics else str)
        else:
            super()._update(progress_bar_id, current, visible, hard)

    def _metrics_in_words(self) -> str:
        metrics = self.get_metrics(self.trainer, self.trainer.lightning_module)
        return ", ".join(f"{name} {value:.3g}" for name, value in metrics.items())


class TimeLeft(ProgressColumn):
    """The time left at the mean pace of this run, validations included."""

    def render(self, task: Task) -> Text:
        """Say it for one bar."""
        seconds = task.finished_time if task.finished else task.elapsed
        done = task.completed - task.fields.get("began_with", 0)
        return Text(time_left(seconds or 0.0, done, task.remaining or 0.0))
