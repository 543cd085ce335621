"""Progress in words and bars: a clock under the test's control tells how long is left."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from gss.display.progress import BarDisplay, LineDisplay, choose_display, track

SHOW_CURSOR = "\x1b[?25h"


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def paper() -> Console:
    """A console that is a file."""
    return Console(file=io.StringIO(), width=40)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Console:
    """A console that is a terminal."""
    monkeypatch.setenv("TERM", "xterm-256color")
    return Console(file=io.StringIO(), force_terminal=True, width=120)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def frames(console: Console) -> list[str]:
    """What the terminal showed, without its control sequences."""
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written(console)).splitlines()
    return [line.strip() for line in lines if line.strip()]


def run(console: Console, clock: Clock, total: int | None, upto: int, start: int = 0, quiet: float = 0.0) -> list[str]:
    """Tell a task of one second per step, and give its lines."""
    task = LineDisplay(console, clock).task("stage=prior training", total, "steps", start, quiet)
    for completed in range(start + 1, upto + 1):
        clock.seconds += 1.0
        task.update(completed, lambda: "loss 2.31")
    task.finish()
    return written(console).splitlines()


def test_a_line_comes_about_every_tenth(paper: Console, clock: Clock) -> None:
    lines = run(paper, clock, 500, 500)
    assert [int(re.findall(r"(\d+)/500", line)[0]) for line in lines] == [5, *range(50, 501, 50)]
    assert lines[3] == "stage=prior training 150/500 steps, 30 %, 0:05:50 left, loss 2.31"
    assert lines[-1] == "stage=prior training 500/500 steps, 100 %, took 0:08:20, loss 2.31"


@pytest.mark.parametrize("total", [1, 3, 7, 10, 99, 101, 1234])
def test_lines_are_few_and_the_last_one_says_100(paper: Console, clock: Clock, total: int) -> None:
    lines = run(paper, clock, total, total)
    assert len(lines) == min(total, 10) + (total >= 100)
    assert [" 100 %," in line for line in lines] == [False] * (len(lines) - 1) + [True]


def test_almost_done_is_not_done(paper: Console, clock: Clock) -> None:
    task = LineDisplay(paper, clock).task("x", 1000)
    clock.seconds = 999.0
    task.update(999)
    assert written(paper) == "x 999/1000 steps, 99 %, 0:00:01 left\n"


def test_a_resumed_task_counts_only_this_run(paper: Console, clock: Clock) -> None:
    lines = run(paper, clock, 500, 450, start=400)
    assert lines == ["stage=prior training 450/500 steps, 90 %, 0:00:50 left, loss 2.31"]


def test_without_a_total_lines_thin_out(paper: Console, clock: Clock) -> None:
    counts = [int(re.findall(r"(\d+) steps", line)[0]) for line in run(paper, clock, None, 100)]
    assert counts == [1, 2, 4, 8, 16, 32, 64]


def test_a_quiet_task_speaks_only_when_it_takes_long(paper: Console, clock: Clock) -> None:
    assert run(paper, clock, 10, 10, quiet=60.0) == []
    lines = run(paper, clock, 200, 200, quiet=60.0)
    assert [int(re.findall(r"(\d+)/200", line)[0]) for line in lines] == [60, 120, 180]


def test_a_note_is_asked_for_only_when_it_is_shown(paper: Console, clock: Clock) -> None:
    asked: list[int] = []
    task = LineDisplay(paper, clock).task("x", 1000)
    for completed in range(1, 1001):
        task.update(completed, lambda: asked.append(1) or "")
    assert len(asked) == len(written(paper).splitlines()) == 11


def test_brackets_in_a_description_are_text(paper: Console, screen: Console, clock: Clock) -> None:
    LineDisplay(paper, clock).task("[red]fit[/red]", 1).update(1)
    assert written(paper).startswith("[red]fit[/red] 1/1")
    task = BarDisplay(screen, clock).task("[red]fit[/red]", 1)
    task.finish()
    assert "[red]fit[/red]" in written(screen)


def test_a_terminal_gets_a_bar_and_its_cursor_back(screen: Console, clock: Clock) -> None:
    task = choose_display(screen, clock).task("stage=prior training", 500, completed=100)
    clock.seconds = 10.0
    task.update(200, lambda: "loss 2.31")
    task.finish()
    task.finish()
    assert re.fullmatch(r"stage=prior training ━+.* 200/500 steps 0:00:30 left loss 2\.31", frames(screen)[-1])
    assert written(screen).endswith(SHOW_CURSOR)


def test_a_bar_within_a_bar_goes_when_it_ends(screen: Console, clock: Clock) -> None:
    display = BarDisplay(screen, clock)
    outer = display.task("training", 5)
    inner = display.task("validation", 3)
    clock.seconds = 1.0
    inner.update(3)
    inner.finish()
    assert SHOW_CURSOR not in written(screen)  # the outer one is still live
    outer.update(5)
    outer.finish()
    final = written(screen).rpartition("\x1b[2K")[2]  # after the terminal's last line was wiped
    assert "training" in final
    assert "validation" not in final
    assert written(screen).endswith(SHOW_CURSOR)


def test_a_display_can_be_used_again(screen: Console, clock: Clock) -> None:
    display = BarDisplay(screen, clock)
    for name in ("first", "second"):
        task = display.task(name, 1)
        task.update(1)
        task.finish()
    assert written(screen).count(SHOW_CURSOR) == 2


def test_the_console_decides(paper: Console, screen: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(choose_display(paper), LineDisplay)
    assert isinstance(choose_display(screen), BarDisplay)
    monkeypatch.setenv("TERM", "dumb")
    dumb = Console(file=io.StringIO(), force_terminal=True)
    assert isinstance(choose_display(dumb), LineDisplay)


def test_track_gives_every_item_and_tells(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track("abcd", "reading", unit="files")) == ["a", "b", "c", "d"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"reading {n}/4 files" for n in range(1, 5)]


def test_track_takes_a_loop_of_unknown_length_that_is_left_early(capsys: pytest.CaptureFixture[str]) -> None:
    for number in track(iter(range(100)), "searching", unit="files"):
        if number == 3:
            break
    assert capsys.readouterr().out.splitlines() == ["searching 1 files", "searching 2 files"]
