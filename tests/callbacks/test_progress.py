"""StepProgress in real trainings, on a console that is a file and on one that is a terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console

from gss.callbacks.progress import StepProgress
from gss.display.progress import BarDisplay, LineDisplay
from gss.runs.training import AtomicCheckpointIO
from toy_stage import ToyStage, images, loader

MakeTrainer = Callable[..., pl.Trainer]
Fit = Callable[[pl.Trainer, pl.LightningModule], None]
SHOW_CURSOR = "\x1b[?25h"


class Paper:
    """A console that is a file, and the progress written to it."""

    def __init__(self) -> None:
        self.file = io.StringIO()
        self.progress = StepProgress(LineDisplay(Console(file=self.file, width=40)))

    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.setenv("TERM", "xterm-256color")
    return Console(file=io.StringIO(), force_terminal=True, width=120)


def test_lines_say_stage_steps_and_loss(make_trainer: MakeTrainer, fit: Fit, paper: Paper) -> None:
    fit(make_trainer(callbacks=[paper.progress]), ToyStage())
    heads = [line.split(",")[0] for line in paper.lines()]
    assert heads == [f"stage=toy training {step}/4 steps" for step in range(1, 5)]
    loss = (0.0 - images(8)[:2].mean()).square()  # the weight starts at 0
    assert paper.lines()[0].endswith(f"loss {loss:.3g}")
    assert re.search(r", 25 %, \d:\d\d:\d\d left, ", paper.lines()[0])
    assert re.search(r", 100 %, took \d:\d\d:\d\d, ", paper.lines()[-1])


def test_it_is_the_only_progress_bar(make_trainer: MakeTrainer, paper: Paper) -> None:
    trainer = make_trainer(callbacks=[paper.progress])
    assert [c for c in trainer.callbacks if isinstance(c, ProgressBar)] == [paper.progress]


def test_what_is_logged_for_the_bar_is_shown(make_trainer: MakeTrainer, fit: Fit, paper: Paper) -> None:
    class Telling(ToyStage):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor | None:
            self.log("train/loss", 2.3142, prog_bar=True)
            return super().training_step(batch, batch_idx)

    fit(make_trainer(callbacks=[paper.progress]), Telling())
    assert all(line.endswith(", loss 2.31") for line in paper.lines())


def test_steps_are_counted_not_batches(make_trainer: MakeTrainer, fit: Fit, paper: Paper) -> None:
    settings = {"max_steps": 2, "accumulate_grad_batches": 2, "limit_val_batches": 0}
    fit(make_trainer(**settings, callbacks=[paper.progress]), ToyStage())
    assert [line.split(",")[0] for line in paper.lines()] == [f"stage=toy training {step}/2 steps" for step in (1, 2)]


def test_epochs_are_turned_into_steps(make_trainer: MakeTrainer, paper: Paper) -> None:
    settings = {"max_steps": -1, "max_epochs": 3, "limit_val_batches": 0, "val_check_interval": None}
    make_trainer(**settings, callbacks=[paper.progress]).fit(ToyStage(), loader(8))
    assert paper.lines()[-1].startswith("stage=toy training 12/12 steps, 100 %")


def test_a_resumed_run_goes_on_where_it_stopped(tmp_path: Path, make_trainer: MakeTrainer, paper: Paper) -> None:
    settings = {"plugins": [AtomicCheckpointIO()], "limit_val_batches": 0}
    first = make_trainer(max_steps=3, **settings)
    first.fit(ToyStage(), loader(20))
    first.save_checkpoint(tmp_path / "stop.ckpt")
    resumed = make_trainer(max_steps=6, callbacks=[paper.progress], **settings)
    resumed.fit(ToyStage(), loader(20), ckpt_path=tmp_path / "stop.ckpt")
    assert [line.split(",")[0] for line in paper.lines()] == [
        f"stage=toy training {step}/6 steps" for step in (4, 5, 6)
    ]


@pytest.mark.parametrize(("verb", "word"), [("validate", "validation"), ("test", "test")])
def test_evaluation_alone_counts_its_batches(
    make_trainer: MakeTrainer, paper: Paper, monkeypatch: pytest.MonkeyPatch, verb: str, word: str
) -> None:
    monkeypatch.setattr(ToyStage, "test_step", ToyStage.validation_step, raising=False)
    getattr(make_trainer(callbacks=[paper.progress]), verb)(ToyStage(), loader(3), verbose=False)
    assert [line.split(",")[0] for line in paper.lines()] == [f"stage=toy {word} {n}/2 batches" for n in (1, 2)]


def test_prediction_counts_its_batches(
    make_trainer: MakeTrainer, paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyStage, "predict_step", lambda self, batch: batch.mean())
    make_trainer(callbacks=[paper.progress]).predict(ToyStage(), loader(3))
    assert paper.lines()[-1].startswith("stage=toy prediction 2/2 batches, 100 %")


def test_a_module_without_a_stage_is_told_plainly(make_trainer: MakeTrainer, fit: Fit, paper: Paper) -> None:
    module = ToyStage()
    del module.stage_name
    fit(make_trainer(callbacks=[paper.progress]), module)
    assert paper.lines()[0].startswith("training 1/4 steps")


def test_other_ranks_say_nothing(make_trainer: MakeTrainer, paper: Paper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.Trainer, "is_global_zero", False)
    make_trainer(callbacks=[paper.progress]).validate(ToyStage(), loader(3), verbose=False)
    assert paper.lines() == []


def test_a_terminal_sees_training_and_validation(make_trainer: MakeTrainer, fit: Fit, screen: Console) -> None:
    fit(make_trainer(num_sanity_val_steps=1, callbacks=[StepProgress(BarDisplay(screen))]), ToyStage())
    assert isinstance(screen.file, io.StringIO)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.file.getvalue())
    assert "stage=toy validation" in shown
    assert re.match(r"stage=toy training ━+ 4/4 steps", shown.splitlines()[-1])
    assert screen.file.getvalue().endswith(SHOW_CURSOR)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_crash_gives_the_terminal_back(
    make_trainer: MakeTrainer, fit: Fit, screen: Console, error: type[BaseException]
) -> None:
    class Crashing(ToyStage):
        def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
            raise error("on purpose")

    with pytest.raises((error, SystemExit)):
        fit(make_trainer(callbacks=[StepProgress(BarDisplay(screen))]), Crashing())
    assert isinstance(screen.file, io.StringIO)
    assert screen.file.getvalue().endswith(SHOW_CURSOR)


def test_it_finds_the_console_by_itself(
    make_trainer: MakeTrainer, fit: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(make_trainer(callbacks=[StepProgress()]), ToyStage())
    assert "stage=toy training 4/4 steps, 100 %" in capsys.readouterr().out
