"""How far a loop has come: `track` for any loop, and the plain lines that log files get in the place of bars."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sized
from datetime import timedelta
from time import monotonic
from typing import TypeVar

import rich.progress
from rich import get_console
from rich.markup import escape

QUIET_SECONDS = 20.0  # between two lines about work before or within a training, so that short work says nothing
Item = TypeVar("Item")


def shows_bars() -> bool:
    """Whether the output is a terminal that can move its cursor."""
    return get_console().is_terminal and not get_console().is_dumb_terminal


def track(items: Iterable[Item], description: str, total: int | None = None, unit: str = "steps") -> Iterator[Item]:
    """Give the items one by one; a terminal gets a bar, a log file `Lines` about a loop that takes over 20 seconds.

    The total defaults to the items' length; `unit` is what is counted, in the plural.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if shows_bars():
        yield from rich.progress.track(items, escape(description), total)
        return
    lines = Lines(description, total, unit, quiet_seconds=QUIET_SECONDS)
    for completed, item in enumerate(items, start=1):
        yield item
        lines.update(completed)


class Lines:
    """Progress in plain lines: one at about 1 %, then one about each tenth; without a total, at doubled counts.

    Args:
        description: what is being done.
        total: how many units there are; None or infinite if nobody knows.
        unit: what is counted, in the plural.
        completed: units done in an earlier run, which say nothing about the pace of this one.
        quiet_seconds: lines come at least so far apart, the first as long after the beginning.
    """

    def __init__(
        self, description: str, total: float | None, unit: str, completed: int = 0, quiet_seconds: float = 0.0
    ) -> None:
        self.description, self.unit, self.quiet_seconds = description, unit, quiet_seconds
        self.total = math.inf if total is None else total
        self._began_with, self._began_at = completed, monotonic()
        self._mark, self._silent_until = self._marks(completed), self._began_at + quiet_seconds

    def update(self, completed: int, note: Callable[[], str] = str) -> None:
        """Print, if it is time, `stage=prior training 120/500 steps, 0:01:20 left, loss 2.31`.

        `note` gives the remark at the end. It is called only for a line, as reading a loss waits for the accelerator.
        """
        mark = self._marks(completed)
        if mark <= self._mark or (now := monotonic()) < self._silent_until:
            return
        self._mark, self._silent_until = mark, now + self.quiet_seconds
        count = f"{completed}/{self.total:.0f}" if math.isfinite(self.total) else f"{completed}"
        left = time_left(now - self._began_at, completed - self._began_with, self.total - completed)
        parts = (f"{self.description} {count} {self.unit}", left, note())
        get_console().print(", ".join(filter(None, parts)), markup=False, highlight=False, soft_wrap=True)

    def _marks(self, completed: int) -> int:
        """How many of the places for a line are passed."""
        if math.isinf(self.total):
            return completed.bit_length()
        return int(10 * completed // max(1, self.total)) + (100 * completed >= self.total)


def time_left(seconds: float, done: float, remaining: float) -> str:
    """Say `0:01:20 left` from the mean pace so far, `took 0:06:40` at the end, nothing where the end is unknown."""
    if remaining <= 0:
        return f"took {timedelta(seconds=round(seconds))}"
    if done <= 0 or math.isinf(remaining):
        return ""
    return f"{timedelta(seconds=round(seconds / done * remaining))} left"
