"""Live bars for terminals."""

from __future__ import annotations

import math
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from gss.progress.pace import Clock, Note, Pace, no_note

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
