"""Progress for people: what is being done and how long is left; bars on a terminal, else lines."""

from __future__ import annotations

from gss.progress.display import Display, Task, choose_display, track

__all__ = ["Display", "Task", "choose_display", "track"]
