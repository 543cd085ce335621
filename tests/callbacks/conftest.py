"""Trainers for the toy stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import ProgressBar

from .toy_stage import loader


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., pl.Trainer]:
    """Give trainers of 4 steps with a validation after each second one, nothing logged unless asked."""

    def make(**settings: Any) -> pl.Trainer:
        defaults: dict[str, Any] = {
            "max_steps": 4,
            "val_check_interval": 2,
            "check_val_every_n_epoch": None,
            "num_sanity_val_steps": 0,
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": any(isinstance(c, ProgressBar) for c in settings.get("callbacks", [])),
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "default_root_dir": tmp_path,
        }
        return pl.Trainer(**{**defaults, **settings})

    return make


@pytest.fixture
def fit() -> Callable[[pl.Trainer, pl.LightningModule], None]:
    """Run a trainer on drawn images: 8 in pairs for training, 3 for validation."""
    return lambda trainer, module: trainer.fit(module, loader(8), loader(3))
