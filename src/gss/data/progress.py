"""Progress bars for work that a user waits for before training starts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich import get_console
from rich.progress import track

T = TypeVar("T")


def shown(items: Iterable[T], title: str, total: int) -> Iterator[T]:
    """Pass items on, showing how many of `total` are done and how long the rest takes; not in log files."""
    yield from track(items, title, total=total, transient=True, disable=not get_console().is_terminal)
