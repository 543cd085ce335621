"""PerClassTable in real trainings: console, CSV file and a logger's table tell the same scores."""

from __future__ import annotations

import csv
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.loggers import CSVLogger, WandbLogger

from gss.callbacks.tables import PerClassTable
from toy_stage import ToyStage, loader

MakeTrainer = Callable[..., pl.Trainer]
Fit = Callable[[pl.Trainer, pl.LightningModule], None]


class TableLogger(CSVLogger):
    """Writes files, and records tables as W&B's logger would take them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="", version="")
        self.tables: list[dict[str, Any]] = []

    def log_table(self, **call: Any) -> None:
        self.tables.append(call)


def test_it_tells_the_console_after_each_validation(
    make_trainer: MakeTrainer, fit: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(make_trainer(num_sanity_val_steps=1, callbacks=[PerClassTable()]), ToyStage())
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if line[:1] == ["validation"]] == [
        ["validation", "at", "step", step] for step in "24"
    ]
    assert [line for line in lines if line[:1] == ["miou"]] == [["miou", "1.000"], ["miou", "0.500"]]
    assert [line[:2] for line in lines if line[:1] == ["road"]] == 2 * [["road", "0.750"]]
    assert [line[:2] for line in lines if line[:1] == ["tree"]] == 2 * [["tree", "-"]]


def test_it_writes_a_line_per_validation(tmp_path: Path, make_trainer: MakeTrainer, fit: Fit) -> None:
    fit(make_trainer(logger=TableLogger(tmp_path / "run"), callbacks=[PerClassTable()]), ToyStage())
    with (tmp_path / "run" / "per_class.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["step", "road", "tree"],
            ["2", "0.750000", ""],
            ["4", "0.750000", ""],
        ]


def test_a_logger_with_log_table_gets_a_table(tmp_path: Path, make_trainer: MakeTrainer, fit: Fit) -> None:
    logger = TableLogger(tmp_path)
    fit(make_trainer(logger=logger, callbacks=[PerClassTable()]), ToyStage())
    assert [table["step"] for table in logger.tables] == [2, 4]
    assert logger.tables[0]["columns"] == ["class", "iou"]
    assert logger.tables[0]["data"] == [["road", 0.75], ["tree", None]]
    inspect.signature(WandbLogger.log_table).bind(None, **logger.tables[0])  # the real one takes the same


def test_validate_alone_tells_too(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    make_trainer(callbacks=[PerClassTable()]).validate(ToyStage(), loader(3), verbose=False)
    assert (tmp_path / "per_class.csv").read_text().splitlines() == ["step,road,tree", "0,0.750000,"]


def test_other_ranks_say_nothing(
    tmp_path: Path,
    make_trainer: MakeTrainer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(pl.Trainer, "is_global_zero", False)
    make_trainer(callbacks=[PerClassTable()]).validate(ToyStage(), loader(3), verbose=False)
    assert "road" not in capsys.readouterr().out
    assert not (tmp_path / "per_class.csv").exists()


def test_a_module_without_class_scores_gets_no_table(
    tmp_path: Path,
    make_trainer: MakeTrainer,
    fit: Fit,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ToyStage, "on_validation_epoch_end", lambda self: self.log("val/ceiling", 0.9))
    fit(make_trainer(callbacks=[PerClassTable()]), ToyStage())
    assert "validation at step" not in capsys.readouterr().out
    assert not (tmp_path / "per_class.csv").exists()
