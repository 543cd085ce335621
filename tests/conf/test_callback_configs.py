"""conf/callbacks and conf/logger: each file is composed, built and run."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from omegaconf import OmegaConf

from gss.callbacks.progress import StepProgress
from gss.runs.training import AtomicCheckpointIO
from toy_stage import ToyStage

CONF = Path(__file__).resolve().parents[2] / "conf"
RESOLVER = "gss.wandb_offline"
MakeTrainer = Callable[..., pl.Trainer]
Fit = Callable[[pl.Trainer, pl.LightningModule], None]


@pytest.fixture
def offline() -> Iterator[None]:
    """The entry registers this resolver; here it is lent where nobody has."""
    if OmegaConf.has_resolver(RESOLVER):
        yield
        return
    OmegaConf.register_new_resolver(RESOLVER, lambda: True)
    yield
    OmegaConf.clear_resolver(RESOLVER)


def build(group: str, name: str, run: Path) -> dict[str, Any]:
    """Compose one file with the keys of other groups that it reads, and build every object it names."""
    others = [f"+paths.run={run}", "+stage.monitor=val/miou"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(f"{group}/{name}", overrides=others)
    return {key: instantiate(node) for key, node in (config.get(group) or {}).items()}


def test_every_file_is_covered() -> None:
    assert {path.stem for path in (CONF / "callbacks").iterdir()} == {"default", "ema", "none"}
    assert {path.stem for path in (CONF / "logger").iterdir()} == {"csv", "tensorboard", "wandb", "none"}


def test_default_callbacks_leave_what_a_run_should(tmp_path: Path, make_trainer: MakeTrainer, fit: Fit) -> None:
    callbacks = build("callbacks", "default", tmp_path)
    loggers = build("logger", "csv", tmp_path)
    trainer = make_trainer(
        callbacks=list(callbacks.values()),
        logger=list(loggers.values()),
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=True,
    )
    fit(trainer, ToyStage())
    steps = {
        path.name: torch.load(path, weights_only=True)["global_step"]
        for path in (tmp_path / "checkpoints").glob("*.ckpt")
    }
    assert steps == {"best.ckpt": 2, "last.ckpt": 4}  # the toy's score falls: the best is the first
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoints",
        "panels",
        "per_class.csv",
        "metrics.csv",
    }
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["lr-SGD"] for row in rows if row["lr-SGD"]] == ["0.1"] * 4
    assert [row["val/miou"] for row in rows if row["val/miou"]] == ["1.0", "0.5"]


@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize("logger", ["none", "csv"])
def test_default_callbacks_run_without_optimiser_or_logger(
    tmp_path: Path, make_trainer: MakeTrainer, fit: Fit, trains: bool, logger: str
) -> None:
    trainer = make_trainer(
        callbacks=list(build("callbacks", "default", tmp_path).values()),
        logger=list(build("logger", logger, tmp_path).values()),
        enable_checkpointing=True,
        max_steps=4 if trains else -1,
        max_epochs=1,
    )
    fit(trainer, ToyStage(trains))
    assert (tmp_path / "per_class.csv").is_file()


def test_none_keeps_progress_alone(tmp_path: Path) -> None:
    assert [type(callback) for callback in build("callbacks", "none", tmp_path).values()] == [StepProgress]
    assert build("logger", "none", tmp_path) == {}


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("csv", [CSVLogger]),
        ("tensorboard", [CSVLogger, TensorBoardLogger]),
        ("wandb", [CSVLogger, WandbLogger]),
    ],
)
def test_loggers_write_below_the_run(tmp_path: Path, name: str, kinds: list[type[Logger]]) -> None:
    loggers = list(build("logger", name, tmp_path).values())
    assert [type(logger) for logger in loggers] == kinds
    for logger in loggers:
        assert Path(str(logger.log_dir or logger.save_dir)).is_relative_to(tmp_path)
