"""PanelCallback: after validation, one picture of the first images goes to each logger that is on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.loggers import Logger
from PIL import Image

from gss.display import PanelRow, draw_panel

KEY = "val/panel"


class PanelCallback(pl.Callback):
    """Draw the first validation images, as the module sees them, now and then and at the last step.

    The module gives `panel_rows(batch, limit) -> list[PanelRow]`, `label_space` and `palette`; one that has
    no `panel_rows` gets no panel. Only rank 0 draws. The sanity check is kept in reserve: its picture is
    logged when training ends without any validation.

    Args:
        num_rows: images on the panel.
        every_n_validations: draw at the first validation, then at each n-th after it.

    Raises:
        ValueError: one of the two is smaller than 1.
    """

    def __init__(self, num_rows: int = 3, every_n_validations: int = 1) -> None:
        super().__init__()
        for name, value in (("num_rows", num_rows), ("every_n_validations", every_n_validations)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}; mend callbacks.panels.{name}")
        self.num_rows = num_rows
        self.every_n_validations = every_n_validations
        self._validations = 0
        self._rows: list[PanelRow] = []

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the images of the validation before."""
        self._rows = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect rows, from the first batch on, until there are enough."""
        missing = self.num_rows - len(self._rows)
        is_last = 0 < trainer.max_steps <= trainer.global_step
        is_due = trainer.is_global_zero and (is_last or self._validations % self.every_n_validations == 0)
        if missing > 0 and dataloader_idx == 0 and is_due and hasattr(pl_module, "panel_rows"):
            module: Any = pl_module
            self._rows += module.panel_rows(batch, missing)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw what was collected, and count the validation."""
        if not trainer.sanity_checking:
            self._log(trainer, pl_module)
            self._validations += 1

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fall back on the sanity check's images where no validation came."""
        if self._validations == 0:
            self._log(trainer, pl_module)

    def _log(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._rows:
            return
        module: Any = pl_module
        panel = draw_panel(self._rows, module.label_space, module.palette)
        self._rows = []
        taken = [_hand_over(logger, panel, trainer.global_step) for logger in trainer.loggers]
        if not taken or not all(taken):
            path = run_folder(trainer) / "panels" / f"step_{trainer.global_step:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            panel.save(path, optimize=True)


def run_folder(trainer: pl.Trainer) -> Path:
    """Give the folder of the first logger that has one, else the trainer's.

    `Trainer.log_dir` is not used on purpose: it broadcasts, so a call on rank 0 alone never returns.
    """
    for logger in trainer.loggers:
        folder = getattr(logger, "log_dir", None) or logger.save_dir
        if folder:
            return Path(folder)
    return Path(trainer.default_root_dir)


def _hand_over(logger: Logger, panel: Image.Image, step: int) -> bool:
    """Give the picture to a logger that takes pictures, told by its methods, not its class; else False."""
    if hasattr(logger, "log_image"):  # W&B's way
        logger.log_image(key=KEY, images=[panel], step=step)
        return True
    experiment = getattr(logger, "experiment", None)
    if experiment is not None and hasattr(experiment, "add_image"):  # TensorBoard's way
        experiment.add_image(KEY, np.asarray(panel), global_step=step, dataformats="HWC")
        return True
    return False
