"""`make bench`: our ways against the ordinary ones, as a table and in docs/results/bench.json.

A quick or partial run writes only where --output says, so that docs/results keeps figures of full runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from statistics import median

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler otherwise talks into the table

import torch
from rich.console import Console
from rich.table import Table

from bench.harness import FULL, MARGIN, QUICK, Effort, Row, fixed_threads

GROUPS = (
    "dvae_decoding",
    "label_tokens",
    "confusion_matrix",
    "feeding",
    "generation",
    "head_step",
    "inference_windows",
    "training_loop",
)
WIDTH = 96  # of the table with the longest row; a narrower one would cut its figures short
RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "bench.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes; 1 if a row of a run that is not quick misses its bar and the margin."""
    options = _options(arguments)
    output = options.output or (None if options.quick or options.only else RESULTS)
    effort = QUICK if options.quick else FULL
    console = Console(width=max(Console().width, WIDTH))
    console.print(f"torch {torch.__version__} on {platform.machine()}, {os.cpu_count()} CPU cores")
    console.print(f"threads {options.threads}, warm-up rounds {effort.warm_up}, repeats {effort.repeats}")
    rows: list[Row] = []
    try:
        with fixed_threads(options.threads):
            rows.extend(measure(options.only or GROUPS, effort, console))  # row by row
    finally:  # what was measured before a group that fails is shown all the same
        console.print(table(rows))
    if output is not None:
        write(rows, output)
        console.print(f"written to {output}", highlight=False, soft_wrap=True)
    return int(not options.quick and not all(row.holds for row in rows))


def measure(groups: Iterable[str], effort: Effort, console: Console) -> Iterator[Row]:
    """The rows of some groups; each group is one module of `bench` with a function `measure`."""
    for group in groups:
        with console.status(f"measuring {group}"):
            run: Callable[[Effort], list[Row]] = import_module(f"bench.{group}").measure
            yield from run(effort)


def table(rows: Iterable[Row]) -> Table:
    """Medians, how much the repeats vary, the ratio, and whether the bar is reached."""
    caption = f"ratio = other / ours; *: below the bar by less than {MARGIN:.0%}, as shared machines vary"
    drawn = Table(caption=caption, caption_justify="left", box=None)
    drawn.add_column("row", no_wrap=True)
    for title in ("ours", "other", "unit", "spread", "ratio", "bar", "holds"):
        drawn.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        verdict = "no" if not row.holds else "yes" if row.ratio >= row.bar else "yes*"
        figures = (_figure(median(row.ours)), _figure(median(row.other)), row.unit, f"{_spread(row):.0%}")
        drawn.add_row(row.name, *figures, _figure(row.ratio), _figure(row.bar), verdict)
    return drawn


def write(rows: Iterable[Row], path: Path) -> None:
    """Writes the rows as a JSON list, one row per line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[\n" + ",\n".join(f"  {json.dumps(row.record())}" for row in rows) + "\n]\n")


def _spread(row: Row) -> float:
    """Largest minus smallest repeat over the median, of the way that varies more."""
    return max((max(costs) - min(costs)) / median(costs) for costs in (row.ours, row.other))


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    groups = ", ".join(GROUPS)
    parser.add_argument("--quick", action="store_true", help="few repeats: does everything run?")
    parser.add_argument("--only", nargs="+", choices=GROUPS, metavar="NAME", help=f"some of {groups}")
    # with more, whoever else computes on the machine holds up all threads, and the figures say little
    parser.add_argument("--threads", type=int, default=1, help="of torch; 1 if not given")
    parser.add_argument("--output", type=Path, help="where to write the JSON list")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
