"""Where a run's own files go."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl


def run_folder(trainer: pl.Trainer) -> Path:
    """Give the folder of the first logger that has one, else the trainer's.

    `Trainer.log_dir` is not used on purpose: it broadcasts, so a call on rank 0 alone never returns.
    """
    for logger in trainer.loggers:
        folder = getattr(logger, "log_dir", None) or logger.save_dir
        if folder:
            return Path(folder)
    return Path(trainer.default_root_dir)
