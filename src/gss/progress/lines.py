"""Plain lines for logs and pipes: one at about 1 %, then one about every 10 %."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console

from gss.progress.pace import Clock, Note, Pace, no_note


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
