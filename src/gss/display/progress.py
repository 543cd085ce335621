"""The choice between bars and lines, and `track`, which follows any loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from datetime import timedelta
from functools import cache
from typing import Protocol, TypeVar

from rich import get_console
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

# FOLDED The arithmetic of progress: counts, shares and the time left.

Clock = Callable[[], float]
Note = Callable[[], str]


def no_note() -> str:
    """Add nothing."""
    return ""


class Pace:
    """How far a task has come, and what its mean pace so far says about the rest.

    Args:
        description: what is being done.
        total: how many units there are; None if nobody knows.
        unit: what is counted, in the plural.
        completed: units done before this run.
        clock: gives seconds.
    """

    def __init__(self, description: str, total: int | None, unit: str, completed: int, clock: Clock) -> None:
        self.description, self.total, self.unit, self.completed = description, total, unit, completed
        self.now = clock
        self._began_with, self._began_at = completed, clock()

    def count(self) -> str:
        """Say `120/500 steps`, or `120 steps` where the total is not known."""
        return f"{self.completed}{'' if self.total is None else f'/{self.total}'} {self.unit}"

    def percent(self) -> str:
        """Say `24 %`, rounded down so that 100 % means done."""
        return f"{100 * self.completed // self.total} %" if self.total else ""

    def left(self) -> str:
        """Say `0:01:20 left` from the mean pace of this run, and `took 0:06:40` at the end."""
        elapsed, done = self.now() - self._began_at, self.completed - self._began_with
        if self.total is not None and self.completed >= self.total:
            return f"took {timedelta(seconds=round(elapsed))}"
        if self.total is None or done <= 0:
            return ""
        return f"{timedelta(seconds=round(elapsed / done * (self.total - self.completed)))} left"

    def next_line(self) -> int:
        """Give the count worth the next line: 1 %, then each tenth; without a total, doubled counts."""
        if self.total is None:
            return 2 * self.completed or 1
        one_percent = math.ceil(self.total / 100)
        if self.total >= 100 and self.completed < one_percent:
            return one_percent
        tenth = 10 * self.completed // max(1, self.total) + 1
        return math.ceil(tenth * self.total / 10)


# FOLDED Live bars for terminals.

REFRESH_SECONDS = 0.1


class BarDisplay:
    """Tasks shown as bars, one line each; a bar inside another disappears when its task ends."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._progress: Progress | None = None
        self._open: set[BarTask] = set()

    def task(
        self,
        description: str,
        total: int | None,
        unit: str = "steps",
        completed: int = 0,
        quiet_seconds: float = 0.0,
    ) -> BarTask:
        """Begin a task below those under way; a bar disturbs nobody, so `quiet_seconds` is not used."""
        if self._progress is None:
            self._progress = Progress(*_columns(), console=self._console)
            self._progress.start()
        task = BarTask(self, self._progress, Pace(description, total, unit, completed, self._clock))
        self._open.add(task)
        return task

    def close(self, task: BarTask) -> bool:
        """End a task; False if others are under way, so that its bar has to go."""
        self._open.discard(task)
        if self._open:
            return False
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        return True


class BarTask:
    """A task shown as a bar with count, time left and note."""

    def __init__(self, display: BarDisplay, progress: Progress, pace: Pace) -> None:
        self._display, self._progress, self._pace = display, progress, pace
        self._shown_at = -math.inf
        self._is_open = True
        self._id = progress.add_task(pace.description, total=pace.total, count=pace.count(), left="", note="")
        progress.update(self._id, completed=pace.completed)

    def update(self, completed: int, note: Note = no_note) -> None:
        """Move the bar, at most ten times a second: asking for a note may wait for the accelerator."""
        pace = self._pace
        pace.completed = completed
        if pace.now() - self._shown_at >= REFRESH_SECONDS or completed == pace.total:
            self._shown_at = pace.now()
            self._progress.update(self._id, completed=completed, count=pace.count(), left=pace.left(), note=note())

    def finish(self) -> None:
        """Take the bar away, unless it is the outermost, which stays to be read."""
        if self._is_open:
            self._is_open = False
            if not self._display.close(self):
                self._progress.remove_task(self._id)


def _columns() -> list[TextColumn | BarColumn]:
    what = TextColumn("{task.description}", markup=False)
    texts = [TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("count", "left", "note")]
    return [what, BarColumn(bar_width=24), *texts]


# FOLDED Plain lines for logs and pipes: one at about 1 %, then one about every 10 %.


class LineDisplay:
    """Tasks told in lines of a console."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._clock = clock

    def task(
        self,
        description: str,
        total: int | None,
        unit: str = "steps",
        completed: int = 0,
        quiet_seconds: float = 0.0,
    ) -> LineTask:
        """Begin a task, silently: the first line comes with the first update that is worth one."""
        return LineTask(self._write, Pace(description, total, unit, completed, self._clock), quiet_seconds)

    def _write(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class LineTask:
    """A task told in lines."""

    def __init__(self, write: Callable[[str], None], pace: Pace, quiet_seconds: float) -> None:
        self._write, self._pace, self._quiet_seconds = write, pace, quiet_seconds
        self._silent_until = pace.now() + quiet_seconds
        self._due = pace.next_line()

    def update(self, completed: int, note: Note = no_note) -> None:
        """Print a line if the next tenth is reached and the silence is over."""
        pace = self._pace
        pace.completed = completed
        if completed < self._due or pace.now() < self._silent_until:
            return
        self._silent_until = pace.now() + self._quiet_seconds
        self._due = pace.next_line()
        parts = [f"{pace.description} {pace.count()}", pace.percent(), pace.left(), note()]
        self._write(", ".join(part for part in parts if part))

    def finish(self) -> None:
        """End the task; lines stay as they are."""


Item = TypeVar("Item")


class Task(Protocol):
    """One piece of work under way."""

    def update(self, completed: int, note: Note = no_note) -> None:
        """Say how many units are done; `note` adds a remark and is called only when something is shown."""

    def finish(self) -> None:
        """Say that the work has ended, done or not; a second call changes nothing."""


class Display(Protocol):
    """Where tasks are shown."""

    def task(
        self,
        description: str,
        total: int | None,
        unit: str = "steps",
        completed: int = 0,
        quiet_seconds: float = 0.0,
    ) -> Task:
        """Begin a task.

        Args:
            description: what is being done.
            total: how many units there are; None if nobody knows.
            unit: what is counted, in the plural.
            completed: units done in an earlier run: they do not count for the time left.
            quiet_seconds: plain lines come at least so far apart, the first as long after the beginning.
        """


def choose_display(console: Console | None = None, clock: Clock = time.monotonic) -> Display:
    """Give bars on a terminal that can move its cursor, else lines; None is rich's own console."""
    if console is None and _is_screen(get_console()):
        return _shared_bars()
    console = console or get_console()
    return BarDisplay(console, clock) if _is_screen(console) else LineDisplay(console, clock)


def track(items: Iterable[Item], description: str, total: int | None = None, unit: str = "steps") -> Iterator[Item]:
    """Give the items one by one and show how far that has come; the total defaults to their length."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    task = choose_display().task(description, total, unit)
    try:
        for completed, item in enumerate(items, start=1):
            yield item
            task.update(completed)
    finally:
        task.finish()


def _is_screen(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal and not console.is_jupyter


@cache
def _shared_bars() -> BarDisplay:
    """One display for the process: a loop that is tracked inside another adds its bar below."""
    return BarDisplay(get_console())
