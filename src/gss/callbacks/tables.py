"""PerClassTable: after validation, IoU of each class: on the console, as CSV, and in loggers' tables."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
from rich import get_console

from gss.callbacks.panels import run_folder
from gss.display.tables import append_row, class_scores, class_table, headline_scores


class PerClassTable(pl.Callback):
    """Tell IoU per class from the metrics that the module logged as `val/iou/<class>`; rank 0 only.

    Writes `per_class.csv` into the run's folder, one line per validation, and hands a table to each logger
    that has a method `log_table`. A module without `label_space`, or without such metrics, gets no table.
    """

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print, append and log."""
        label_space: Any = getattr(pl_module, "label_space", None)
        if trainer.sanity_checking or not trainer.is_global_zero or label_space is None:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        per_class = class_scores(metrics, label_space.names)
        if not per_class:
            return
        step = trainer.global_step
        get_console().print(class_table(per_class, headline_scores(metrics), f"validation at step {step}"))
        append_row(run_folder(trainer) / "per_class.csv", step, per_class)
        rows = [[name, None if math.isnan(iou) else iou] for name, iou in per_class.items()]
        for logger in trainer.loggers:
            if hasattr(logger, "log_table"):
                logger.log_table(key="val/per_class", columns=["class", "iou"], data=rows, step=step)
