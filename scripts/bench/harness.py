"""How every row is measured: both ways in turn, in one process, on the same inputs, after a warm-up.

    ratio = other / ours

Every quantity here is a cost (time, memory), so a larger ratio is better for us. `bar` is the ratio that a
row has to reach. Shared machines vary by up to a fifth from run to run, so a row holds from
`bar * (1 - MARGIN)` on.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

MARGIN = 0.2
MIB = 1 << 20

Call = Callable[[], object]


@dataclass(frozen=True)
class Effort:
    """How often a row is measured: rounds that are thrown away, then rounds that count."""

    warm_up: int
    repeats: int


FULL = Effort(warm_up=2, repeats=11)
QUICK = Effort(warm_up=1, repeats=2)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        name: under which the row is found in `bench.json`.
        ours: cost of our way, one figure per repeat.
        other: cost of the ordinary way.
        unit: of both.
        bar: smallest ratio that is asked for.
    """

    name: str
    ours: tuple[float, ...]
    other: tuple[float, ...]
    unit: str
    bar: float

    @property
    def ratio(self) -> float:
        """The ordinary way's median cost over ours: above 1 we are cheaper."""
        return median(self.other) / median(self.ours)

    @property
    def holds(self) -> bool:
        """Whether the bar is reached within the margin."""
        return self.ratio >= self.bar * (1 - MARGIN)

    def record(self) -> dict[str, Any]:
        """The row as `bench.json` keeps it: medians and verdict."""
        return {
            "name": self.name,
            "ours": _three_digits(median(self.ours)),
            "other": _three_digits(median(self.other)),
            "unit": self.unit,
            "ratio": _three_digits(self.ratio),
            "bar": _three_digits(self.bar),
            "holds": self.holds,
        }


def time_in_turn(name: str, ours: Call, other: Call, bar: float, effort: Effort) -> Row:
    """Times two calls in turn, in milliseconds; who goes first changes from round to round."""
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(effort.warm_up + effort.repeats):
        for way in (0, 1) if number % 2 else (1, 0):
            taken[way].append(1000 * seconds((ours, other)[way]))
    return Row(name, tuple(taken[0][effort.warm_up :]), tuple(taken[1][effort.warm_up :]), "ms", bar)


def seconds(call: Call) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_memory(call: Call) -> float:
    """Most memory that torch held at once for a call, its result included, in MiB.

    It is the peak of torch's own record of allocations, so it is exact, and the same on every machine.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = call()
    del result  # held until here, so that it counts
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    allocations = [event for event in events if event.get("name") == "[memory]"]
    allocations.sort(key=lambda event: event["ts"])
    return float(max(accumulate((event["args"]["Bytes"] for event in allocations), initial=0)) / MIB)


@contextmanager
def fixed_threads(number: int) -> Iterator[None]:
    """Lets torch compute on this many threads, whatever the environment says, and puts back what was set."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")
