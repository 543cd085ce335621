"""The arithmetic of progress: counts, shares and the time left."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta

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
