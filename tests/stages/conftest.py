"""Runs of both stages in this process, as the commands make them, with the LightningModule at hand afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Callback

from gss.cli.configuration import instantiate, instantiate_each, to_plain
from gss.runs.run import run_stage
from gss.runs.training import RunParts


class Run(NamedTuple):
    """What a run left: its figures, its module, its folder."""

    figures: dict[str, Any]
    module: LightningModule
    folder: Path


class Keep(Callback):
    """Holds on to the module, and counts steps and validations."""

    def __init__(self):
        self.module, self.steps, self.validations = None, 0, 0

    def setup(self, trainer, pl_module, stage):
        self.module = pl_module

    def on_train_batch_end(self, *arguments):
        self.steps += 1

    def on_validation_end(self, *arguments):
        self.validations += 1


@pytest.fixture(scope="session")
def run_tiny(compose_tiny, tiny_prior) -> Callable[..., Run]:
    """Give a function that composes and runs a stage on the drawn scenes, with more callbacks if wished."""

    def run(folder: Path, *overrides: str, callbacks: tuple[Callback, ...] = ()) -> Run:
        config = compose_tiny(folder, f"prior={tiny_prior}", *overrides)
        keep = Keep()
        parts = RunParts(
            datamodule=instantiate(config.data),
            optimisation=instantiate(config.optim),
            callbacks=[*instantiate_each(config.callbacks), keep, *callbacks],
            loggers=instantiate_each(config.logger),
        )
        return Run(run_stage(to_plain(config), parts), keep.module, folder)

    return run


@pytest.fixture
def keep() -> Keep:
    """A second counter, for what a test wants to count by itself."""
    return Keep()
