"""PanelCallback in real trainings: when it draws, and what each kind of logger receives."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from PIL import Image

from gss.callbacks.panels import PanelCallback
from gss.display import draw_panel
from toy_stage import LABEL_SPACE, ToyStage, draw_rows, images, loader

MakeTrainer = Callable[..., pl.Trainer]
Fit = Callable[[pl.Trainer, pl.LightningModule], None]


class PictureLogger(Logger):
    """Records what a logger like W&B's would be given."""

    name, version, save_dir = "pictures", "0", None  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[dict[str, Any]] = []

    def log_image(self, **call: Any) -> None:
        self.calls.append(call)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None: ...

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...


def expected_panel(count: int = 3) -> np.ndarray:
    return np.asarray(draw_panel(draw_rows(images(3)[:count]), LABEL_SPACE, None))


def test_a_csv_logger_gets_files(tmp_path: Path, make_trainer: MakeTrainer, fit: Fit) -> None:
    csv = CSVLogger(tmp_path / "run", name="", version="")
    fit(make_trainer(logger=csv, callbacks=[PanelCallback(num_rows=3)]), ToyStage())
    paths = sorted((tmp_path / "run" / "panels").iterdir())
    assert [path.name for path in paths] == ["step_000002.png", "step_000004.png"]
    assert np.array_equal(np.asarray(Image.open(paths[1])), expected_panel())


def test_without_a_logger_files_go_to_the_trainers_folder(tmp_path: Path, make_trainer: MakeTrainer, fit: Fit) -> None:
    fit(make_trainer(callbacks=[PanelCallback()]), ToyStage())
    assert len(list((tmp_path / "panels").glob("*.png"))) == 2


def test_a_logger_with_log_image_gets_the_picture(tmp_path: Path, make_trainer: MakeTrainer, fit: Fit) -> None:
    pictures = PictureLogger()
    fit(make_trainer(logger=pictures, callbacks=[PanelCallback(num_rows=3)]), ToyStage())
    assert [(call["key"], call["step"]) for call in pictures.calls] == [("val/panel", 2), ("val/panel", 4)]
    assert np.array_equal(np.asarray(pictures.calls[0]["images"][0]), expected_panel())
    assert not (tmp_path / "panels").exists()
    inspect.signature(WandbLogger.log_image).bind(None, **pictures.calls[0])  # the real one takes the same


def test_a_file_is_written_beside_a_picture_logger_too(tmp_path: Path, make_trainer: MakeTrainer, fit: Fit) -> None:
    loggers = [PictureLogger(), CSVLogger(tmp_path / "run", name="", version="")]
    fit(make_trainer(logger=loggers, callbacks=[PanelCallback()]), ToyStage())
    assert len(loggers[0].calls) == len(list((tmp_path / "run" / "panels").iterdir())) == 2


def test_tensorboard_reads_the_picture_back(tmp_path: Path, make_trainer: MakeTrainer, fit: Fit) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = TensorBoardLogger(tmp_path, name="board", version="")
    fit(make_trainer(logger=board, callbacks=[PanelCallback(num_rows=3)]), ToyStage())
    accumulator = events.EventAccumulator(board.log_dir)
    accumulator.Reload()
    images = accumulator.Images("val/panel")
    assert [image.step for image in images] == [2, 4]
    picture = np.asarray(Image.open(io.BytesIO(images[0].encoded_image_string)).convert("RGB"))
    assert np.array_equal(picture, expected_panel())


@pytest.mark.parametrize(
    ("num_rows", "asked"), [(1, [(2, 1)]), (2, [(2, 2)]), (3, [(2, 3), (1, 1)]), (9, [(2, 9), (1, 7)])]
)
def test_it_asks_for_as_many_rows_as_are_missing(
    make_trainer: MakeTrainer, fit: Fit, num_rows: int, asked: list[tuple[int, int]]
) -> None:
    module = ToyStage()
    fit(make_trainer(max_steps=2, callbacks=[PanelCallback(num_rows)]), module)
    assert module.asked == asked


@pytest.mark.parametrize(("every", "steps"), [(1, [1, 2, 3, 4]), (2, [1, 3, 4]), (3, [1, 4]), (9, [1, 4])])
def test_it_draws_the_first_each_nth_and_the_last(
    tmp_path: Path, make_trainer: MakeTrainer, fit: Fit, every: int, steps: list[int]
) -> None:
    callback = PanelCallback(num_rows=1, every_n_validations=every)
    fit(make_trainer(val_check_interval=1, callbacks=[callback]), ToyStage())
    assert sorted(path.name for path in (tmp_path / "panels").iterdir()) == [f"step_{step:06d}.png" for step in steps]


def test_the_sanity_check_draws_nothing_when_validations_follow(
    tmp_path: Path, make_trainer: MakeTrainer, fit: Fit
) -> None:
    fit(make_trainer(num_sanity_val_steps=1, callbacks=[PanelCallback()]), ToyStage())
    assert not (tmp_path / "panels" / "step_000000.png").exists()
    assert len(list((tmp_path / "panels").iterdir())) == 2


def test_the_sanity_check_serves_when_it_is_the_only_one(tmp_path: Path, make_trainer: MakeTrainer, fit: Fit) -> None:
    fit(make_trainer(max_steps=1, num_sanity_val_steps=1, callbacks=[PanelCallback(2)]), ToyStage())
    (path,) = (tmp_path / "panels").iterdir()
    assert np.array_equal(np.asarray(Image.open(path)), expected_panel(2))


def test_validate_alone_draws_too(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    make_trainer(callbacks=[PanelCallback()]).validate(ToyStage(), loader(3), verbose=False)
    assert len(list((tmp_path / "panels").iterdir())) == 1


def test_other_ranks_draw_nothing(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.Trainer, "is_global_zero", False)
    module = ToyStage()
    trainer = make_trainer(callbacks=[PanelCallback()])
    trainer.validate(module, loader(3), verbose=False)
    assert module.asked == []


def test_a_module_without_rows_is_left_alone(
    tmp_path: Path, make_trainer: MakeTrainer, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(ToyStage, "panel_rows")
    fit(make_trainer(callbacks=[PanelCallback()]), ToyStage())
    assert not (tmp_path / "panels").exists()


@pytest.mark.parametrize("setting", ["num_rows", "every_n_validations"])
def test_numbers_below_one_are_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=rf"{setting} must be at least 1, got 0; mend callbacks\.panels"):
        PanelCallback(**{setting: 0})
