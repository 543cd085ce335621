"""The per-class table: IoU of each class, for the console and as rows of a CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

ONE_COLUMN = 25  # up to here a class has its own line and a bar; longer lists are set in three columns
HEADLINE = ("miou", "macc", "aacc", "ceiling", "token_accuracy", "condition_mean", "harmonic_mean")
READOUTS = ("argmax", "expected", "pixel")


def class_table(per_class: Mapping[str, float], headline: Mapping[str, float], title: str) -> RenderableType:
    """Set IoU per class as a table under one line of overall scores.

    Args:
        per_class: class name -> IoU in [0, 1]; nan for a class that occurs nowhere.
        headline: score name -> value in [0, 1], in the order to print.
        title: what was measured.
    """
    scores = "   ".join(f"{name} {_number(value)}" for name, value in headline.items())
    table = _long_table(per_class) if len(per_class) > ONE_COLUMN else _short_table(per_class)
    return Group(Text(title, style="bold"), Text(scores), table)


def frequency_table(rows: Mapping[str, Mapping[str, float]], ids: Mapping[str, str], title: str) -> RenderableType:
    """Set how often something occurs, by what occurs (rows) and by split (columns, the same for all rows).

    Args:
        rows: name of a class, or of what is no class, -> split -> share in [0, 1]; at least one row.
        ids: the ids in the files that stand for each row, in words.
        title: what was counted.
    """
    table = Table("class", "ids in files", box=None, pad_edge=False)
    for split in next(iter(rows.values())):
        table.add_column(Text(split), justify="right")
    for name, shares in rows.items():
        table.add_row(Text(name), Text(ids[name]), *(f"{share:.2%}" if share else "-" for share in shares.values()))
    return Group(Text(title, style="bold"), table)


def comparison_table(rows: Mapping[str, Mapping[str, float]], title: str) -> RenderableType:
    """Set figures by what was compared (rows) and by kind (columns, the same for all rows).

    Args:
        rows: row name -> kind -> figure; at least one row.
        title: what was measured.
    """
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("")
    for kind in next(iter(rows.values())):
        table.add_column(kind, justify="right")
    for name, figures in rows.items():
        table.add_row(name, *(_number(value) for value in figures.values()))
    return table


def parts_table(metrics: Mapping[str, Any], name: str, title: str) -> RenderableType | None:
    """Set the parts of an evaluation as a table: conditions, data sets, and their means; None where there are none.

    Args:
        metrics: what `metrics.json` holds, with `conditions` or `datasets`.
        name: of the own data set.
        title: what was measured.
    """
    others: Mapping[str, Mapping[str, Any]] = metrics.get("datasets", {})
    rows: dict[str, Mapping[str, float]] = {}
    for one, figures in {name: metrics, **others}.items():
        conditions: Mapping[str, Mapping[str, Any]] = figures.get("conditions", {})
        rows |= {f"{one}, {condition}": _overall(found) for condition, found in conditions.items()}
        rows[f"{one}, pooled" if conditions else one] = _overall(figures)
        if conditions:
            rows[f"{one}, mean of conditions"] = _overall({"miou": figures["condition_mean"]})
    if others:
        rows["harmonic mean of data sets"] = _overall({"miou": metrics["harmonic_mean"]})
    return comparison_table(rows, title) if len(rows) > 1 else None


def headline_scores(metrics: Mapping[str, float], prefix: str = "val/") -> dict[str, float]:
    """Pick the overall scores out of logged metrics, as far as present: miou, macc, ..., mIoU by readout."""
    keys = {name: f"{prefix}{name}" for name in HEADLINE} | {name: f"{prefix}{name}/miou" for name in READOUTS}
    return {name: float(metrics[key]) for name, key in keys.items() if key in metrics}


def class_scores(metrics: Mapping[str, float], names: Sequence[str], prefix: str = "val/") -> dict[str, float]:
    """Pick IoU per class out of logged metrics (`val/iou/<class>`), in the order of the train ids."""
    found = ((name, metrics.get(f"{prefix}iou/{name}")) for name in names)
    return {name: float(value) for name, value in found if value is not None}


def append_row(path: Path, step: int, per_class: Mapping[str, float]) -> None:
    """Add one line to a CSV file with the columns step and one per class; absent classes stay empty.

    Raises:
        ValueError: the file holds other classes.
    """
    header = ["step", *per_class]
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists() or path.stat().st_size == 0
    if not fresh:
        with path.open(newline="", encoding="utf-8") as file:
            found = next(csv.reader(file))
        if found != header:
            raise ValueError(
                f"'{path}' has the columns {', '.join(found)}, not {', '.join(header)}; "
                "choose another output folder by paths.run, or move that file away"
            )
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(header)
        writer.writerow([step, *("" if math.isnan(iou) else f"{iou:.6f}" for iou in per_class.values())])


def _overall(figures: Mapping[str, Any]) -> dict[str, float]:
    """mIoU (of a reconstruction: its ceiling), mAcc and aAcc; nan where there is none."""
    found = {"miou": figures.get("miou", figures.get("ceiling")), **{key: figures.get(key) for key in ("macc", "aacc")}}
    return {key: math.nan if figure is None else figure for key, figure in found.items()}


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _short_table(per_class: Mapping[str, float]) -> Table:
    table = Table("class", box=None, pad_edge=False)
    table.add_column("IoU", justify="right")
    table.add_column("")
    for name, iou in per_class.items():
        bar = ProgressBar(total=1.0, completed=0.0 if math.isnan(iou) else iou, width=20)
        table.add_row(Text(name), _number(iou), bar)
    return table


def _long_table(per_class: Mapping[str, float], columns: int = 3) -> Table:
    table = Table(box=None, pad_edge=False)
    for _ in range(columns):
        table.add_column("class", overflow="ellipsis", no_wrap=True)
        table.add_column("IoU", justify="right")
    entries = list(per_class.items())
    lines = -(-len(entries) // columns)
    for line in range(lines):
        row: list[RenderableType] = []
        for name, iou in entries[line::lines]:
            row += [Text(name), _number(iou)]
        table.add_row(*row)
    return table
