"""LearningRate: logs the learning rate, and does nothing where there is no logger to take it."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import LearningRateMonitor


class LearningRate(LearningRateMonitor):
    """Lightning's LearningRateMonitor, except that `logger=none` is not an error."""

    def on_train_start(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        """Find the optimisers, if anybody will hear of them."""
        if trainer.loggers:
            super().on_train_start(trainer, *args, **kwargs)

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        """Log rates that change by the step."""
        if trainer.loggers:
            super().on_train_batch_start(trainer, *args, **kwargs)

    def on_train_epoch_start(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        """Log rates that change by the epoch."""
        if trainer.loggers:
            super().on_train_epoch_start(trainer, *args, **kwargs)
