"""Progress in lines and bars: a clock under the test's control tells how long is left."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import rich

from gss.display.progress import Lines, shows_bars, time_left, track

SHOW_CURSOR = "\x1b[?25h"


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("gss.display.progress.monotonic", clock)
    return clock


@pytest.fixture
def screen() -> Iterator[None]:
    """The output is a terminal."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm-256color"), ("COLUMNS", "120")):
            patch.setenv(name, value)
        rich.reconfigure()  # a console keeps what it found when it was made
        yield
    rich.reconfigure()


Told = pytest.CaptureFixture[str]


def run(told: Told, clock: Clock, total: int | None, upto: int, start: int = 0, quiet: float = 0.0) -> list[str]:
    """Tell of work of one second per step, and give its lines."""
    lines = Lines("stage=prior training", total, "steps", start, quiet)
    for completed in range(start + 1, upto + 1):
        clock.seconds += 1.0
        lines.update(completed, lambda: "loss 2.31")
    return told.readouterr().out.splitlines()


def test_a_line_comes_about_every_tenth(capsys: Told, clock: Clock) -> None:
    lines = run(capsys, clock, 500, 500)
    assert [int(re.findall(r"(\d+)/500", line)[0]) for line in lines] == [5, *range(50, 501, 50)]
    assert lines[3] == "stage=prior training 150/500 steps, 0:05:50 left, loss 2.31"
    assert lines[-1] == "stage=prior training 500/500 steps, took 0:08:20, loss 2.31"


@pytest.mark.parametrize("total", [1, 3, 7, 10, 99, 101, 1234])
def test_lines_are_few_and_the_last_one_says_how_long_it_took(capsys: Told, clock: Clock, total: int) -> None:
    lines = run(capsys, clock, total, total)
    assert min(total, 10) <= len(lines) <= 11
    assert [", took " in line for line in lines] == [False] * (len(lines) - 1) + [True]


def test_a_resumed_task_counts_only_this_run(capsys: Told, clock: Clock) -> None:
    lines = run(capsys, clock, 500, 450, start=400)
    assert lines == ["stage=prior training 450/500 steps, 0:00:50 left, loss 2.31"]


@pytest.mark.parametrize("total", [None, float("inf")])
def test_without_a_total_lines_thin_out(capsys: Told, clock: Clock, total: int | None) -> None:
    lines = run(capsys, clock, total, 100)
    counts = [1, 2, 4, 8, 16, 32, 64]
    assert lines == [f"stage=prior training {count} steps, loss 2.31" for count in counts]


def test_quiet_lines_come_only_when_it_takes_long(capsys: Told, clock: Clock) -> None:
    assert run(capsys, clock, 10, 10, quiet=60.0) == []
    lines = run(capsys, clock, 200, 200, quiet=60.0)
    assert [int(re.findall(r"(\d+)/200", line)[0]) for line in lines] == [60, 120, 180]


def test_a_note_is_asked_for_only_when_it_is_shown(capsys: Told, clock: Clock) -> None:
    asked: list[int] = []
    lines = Lines("x", 1000, "steps")
    for completed in range(1, 1001):
        lines.update(completed, lambda: asked.append(1) or "")
    assert len(asked) == len(capsys.readouterr().out.splitlines()) == 11


def test_the_time_left_follows_from_the_mean_pace() -> None:
    assert time_left(10.0, 100, 300) == "0:00:30 left"
    assert time_left(10.0, 100, 0) == "took 0:00:10"
    assert time_left(10.0, 0, 300) == time_left(10.0, 100, float("inf")) == ""


def test_brackets_in_a_description_are_text(capsys: Told, screen: None) -> None:
    Lines("[red]fit[/red]", 1, "steps").update(1)
    assert capsys.readouterr().out.startswith("[red]fit[/red] 1/1")
    list(track("a", "[red]fit[/red]"))
    assert "[red]fit[/red]" in capsys.readouterr().out


def test_a_terminal_gets_a_bar_and_its_cursor_back(capsys: Told, screen: None) -> None:
    assert list(track("abcd", "reading", unit="files")) == ["a", "b", "c", "d"]
    out = capsys.readouterr().out
    frames = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out).splitlines()
    assert re.match(r"reading ━+ 100% ", [frame for frame in frames if frame.strip()][-1])
    assert out.endswith(SHOW_CURSOR)


def test_the_output_decides(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    assert not shows_bars()
    request.getfixturevalue("screen")
    assert shows_bars()
    monkeypatch.setenv("TERM", "dumb")
    assert not shows_bars()


def test_a_log_file_hears_of_a_tracked_loop_only_when_it_takes_long(capsys: Told, clock: Clock) -> None:
    assert list(track("abcd", "reading", unit="files")) == ["a", "b", "c", "d"]
    assert capsys.readouterr().out == ""
    for _ in track("abcd", "reading", unit="files"):
        clock.seconds += 30.0
    assert capsys.readouterr().out.splitlines() == [
        "reading 1/4 files, 0:01:30 left",
        "reading 2/4 files, 0:01:00 left",
        "reading 3/4 files, 0:00:30 left",
        "reading 4/4 files, took 0:02:00",
    ]


def test_track_takes_a_loop_of_unknown_length_that_is_left_early(capsys: Told, clock: Clock) -> None:
    for number in track(iter(range(100)), "searching", unit="files"):
        clock.seconds += 30.0
        if number == 3:
            break
    assert capsys.readouterr().out.splitlines() == ["searching 1 files", "searching 2 files"]
