"""StepProgress in real trainings, on a console that is a file and on one that is a terminal."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import rich
import torch
from lightning.pytorch.callbacks import ProgressBar

from gss.callbacks.progress import StepProgress
from gss.runs.training import AtomicCheckpointIO
from toy_stage import ToyStage, images, loader

MakeTrainer = Callable[..., pl.Trainer]
Fit = Callable[[pl.Trainer, pl.LightningModule], None]
Told = pytest.CaptureFixture[str]
SHOW_CURSOR = "\x1b[?25h"


class TellingStage(ToyStage):
    """A toy that logs its loss, as real stages do."""

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor | None:
        loss = super().training_step(batch, batch_idx)
        self.log("train/loss", loss, prog_bar=True)
        return loss


@pytest.fixture
def screen() -> Iterator[None]:
    """The output is a terminal."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm-256color"), ("COLUMNS", "120")):
            patch.setenv(name, value)
        rich.reconfigure()  # a console keeps what it found when it was made
        yield
    rich.reconfigure()


def lines(told: Told, start: str = "stage=toy") -> list[str]:
    """What StepProgress told; Lightning and the toy's tests tell other things."""
    return [line for line in told.readouterr().out.splitlines() if line.startswith(start)]


def heads(told: Told) -> list[str]:
    return [line.split(",")[0] for line in lines(told)]


def test_lines_say_stage_steps_and_loss(make_trainer: MakeTrainer, fit: Fit, capsys: Told) -> None:
    fit(make_trainer(callbacks=[StepProgress()]), TellingStage())
    told = lines(capsys)
    assert [line.split(",")[0] for line in told] == [f"stage=toy training {step}/4 steps" for step in range(1, 5)]
    loss = (0.0 - images(8)[:2].mean()).square()  # the weight starts at 0
    assert told[0].endswith(f", loss {loss:.3g}")
    assert re.search(r", \d:\d\d:\d\d left, ", told[0])
    assert re.search(r", took \d:\d\d:\d\d, ", told[-1])


def test_it_is_the_only_progress_bar(make_trainer: MakeTrainer) -> None:
    progress = StepProgress()
    trainer = make_trainer(callbacks=[progress])
    assert [c for c in trainer.callbacks if isinstance(c, ProgressBar)] == [progress]


def test_steps_are_counted_not_batches(make_trainer: MakeTrainer, fit: Fit, capsys: Told) -> None:
    settings = {"max_steps": 2, "accumulate_grad_batches": 2, "limit_val_batches": 0}
    fit(make_trainer(**settings, callbacks=[StepProgress()]), ToyStage())
    assert heads(capsys) == [f"stage=toy training {step}/2 steps" for step in (1, 2)]


def test_epochs_are_turned_into_steps(make_trainer: MakeTrainer, capsys: Told) -> None:
    settings = {"max_steps": -1, "max_epochs": 3, "limit_val_batches": 0, "val_check_interval": None}
    make_trainer(**settings, callbacks=[StepProgress()]).fit(ToyStage(), loader(8))
    assert lines(capsys)[-1].startswith("stage=toy training 12/12 steps, took")


def test_a_resumed_run_goes_on_where_it_stopped(tmp_path: Path, make_trainer: MakeTrainer, capsys: Told) -> None:
    settings = {"plugins": [AtomicCheckpointIO()], "limit_val_batches": 0}
    first = make_trainer(max_steps=3, **settings)
    first.fit(ToyStage(), loader(20))
    first.save_checkpoint(tmp_path / "stop.ckpt")
    resumed = make_trainer(max_steps=6, callbacks=[StepProgress()], **settings)
    resumed.fit(ToyStage(), loader(20), ckpt_path=tmp_path / "stop.ckpt")
    assert heads(capsys) == [f"stage=toy training {step}/6 steps" for step in (4, 5, 6)]


def test_one_progress_serves_two_trainings(make_trainer: MakeTrainer, fit: Fit, capsys: Told) -> None:
    progress = StepProgress()
    for max_steps in (2, 3):
        fit(make_trainer(max_steps=max_steps, callbacks=[progress]), ToyStage())
    assert heads(capsys) == [f"stage=toy training {n}/{total} steps" for total in (2, 3) for n in range(1, total + 1)]


@pytest.mark.parametrize(("verb", "word"), [("validate", "validation"), ("test", "testing")])
def test_evaluation_alone_counts_its_batches(
    make_trainer: MakeTrainer, capsys: Told, monkeypatch: pytest.MonkeyPatch, verb: str, word: str
) -> None:
    monkeypatch.setattr(ToyStage, "test_step", ToyStage.validation_step, raising=False)
    getattr(make_trainer(callbacks=[StepProgress()]), verb)(ToyStage(), loader(3), verbose=False)
    assert heads(capsys) == [f"stage=toy {word} {n}/2 batches" for n in (1, 2)]


def test_prediction_counts_its_batches(
    make_trainer: MakeTrainer, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyStage, "predict_step", lambda self, batch: batch.mean())
    make_trainer(callbacks=[StepProgress()]).predict(ToyStage(), loader(3))
    assert lines(capsys)[-1].startswith("stage=toy predicting 2/2 batches, took")


def test_a_long_validation_within_a_training_is_told(
    make_trainer: MakeTrainer, fit: Fit, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gss.callbacks.progress.QUIET_SECONDS", 0.0)
    fit(make_trainer(max_steps=2, callbacks=[StepProgress()]), ToyStage())
    training, validation = "stage=toy training {}/2 steps", "stage=toy validation {}/2 batches"
    assert heads(capsys) == [training.format(1), training.format(2), validation.format(1), validation.format(2)]


def test_a_module_without_a_stage_is_told_plainly(make_trainer: MakeTrainer, fit: Fit, capsys: Told) -> None:
    module = ToyStage()
    del module.stage_name
    fit(make_trainer(callbacks=[StepProgress()]), module)
    assert lines(capsys, "training")[0].startswith("training 1/4 steps")


def test_other_ranks_say_nothing(
    make_trainer: MakeTrainer, fit: Fit, capsys: Told, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    monkeypatch.setattr(pl.Trainer, "is_global_zero", False)
    fit(make_trainer(callbacks=[StepProgress()]), ToyStage())
    make_trainer(callbacks=[StepProgress()]).validate(ToyStage(), loader(3), verbose=False)
    request.getfixturevalue("screen")
    fit(make_trainer(callbacks=[StepProgress()]), ToyStage())
    assert "stage=toy" not in capsys.readouterr().out


def test_a_terminal_sees_training_and_validation(
    make_trainer: MakeTrainer, fit: Fit, capsys: Told, screen: None
) -> None:
    class Slow(TellingStage):
        def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
            time.sleep(0.25)  # bars move ten times a second

    fit(make_trainer(num_sanity_val_steps=1, callbacks=[StepProgress()]), Slow())
    out = capsys.readouterr().out
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out)
    assert re.search(r"stage=toy validation [━╸╺]+ \d/2", shown)
    assert re.match(r"stage=toy training ━+ 4/4 took 0:00:0\d loss: 0\.\d+", shown.splitlines()[-1])
    assert out.endswith(SHOW_CURSOR)


def test_a_bar_goes_on_where_a_run_stopped(
    tmp_path: Path, make_trainer: MakeTrainer, capsys: Told, screen: None
) -> None:
    settings = {"plugins": [AtomicCheckpointIO()], "limit_val_batches": 0}
    first = make_trainer(max_steps=3, **settings)
    first.fit(ToyStage(), loader(20))
    first.save_checkpoint(tmp_path / "stop.ckpt")
    resumed = make_trainer(max_steps=6, callbacks=[StepProgress()], **settings)
    resumed.fit(ToyStage(), loader(20), ckpt_path=tmp_path / "stop.ckpt")
    counts = re.findall(r"(\d)/6", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out))
    assert counts[-1] == "6"
    assert {"1", "2"}.isdisjoint(counts)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_crash_gives_the_terminal_back(
    make_trainer: MakeTrainer, fit: Fit, capsys: Told, screen: None, error: type[BaseException]
) -> None:
    class Crashing(ToyStage):
        def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
            raise error("on purpose")

    with pytest.raises((error, SystemExit)):
        fit(make_trainer(callbacks=[StepProgress()]), Crashing())
    assert capsys.readouterr().out.endswith(SHOW_CURSOR)
