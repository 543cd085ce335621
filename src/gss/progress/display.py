"""The choice between bars and lines, and `track`, which follows any loop."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from functools import cache
from typing import Protocol, TypeVar

from rich import get_console
from rich.console import Console

from gss.progress.bars import BarDisplay
from gss.progress.lines import LineDisplay
from gss.progress.pace import Clock, Note, no_note

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
