"""The per-class table, read back as a person and as a spreadsheet would."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest
from rich.console import Console

from gss.display.tables import append_row, class_scores, class_table, headline_scores

PER_CLASS = {"road": 0.9314, "tree": math.nan, "traffic [light]": 0.0}


def printed(per_class: dict[str, float], headline: dict[str, float], width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(class_table(per_class, headline, "validation at step 500"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_table_says_what_was_measured() -> None:
    lines = printed(PER_CLASS, {"miou": 0.46571, "ceiling": 0.839})
    assert lines[0].strip() == "validation at step 500"
    assert lines[1].strip() == "miou 0.466   ceiling 0.839"
    assert [" ".join(line.split()[:-1]) for line in lines[3:] if "━" in line] == ["road 0.931"]
    assert [line.split() for line in lines if line.startswith("tree")] == [["tree", "-"]]
    assert [line.split() for line in lines if line.startswith("traffic [light] ")] == [["traffic", "[light]", "0.000"]]


def test_a_longer_bar_means_a_better_class() -> None:
    lines = printed({"a": 0.25, "b": 0.5, "c": 1.0, "d": 0.0}, {})
    bars = {line[0]: line.count("━") for line in lines if line[:1] in "abcd" and line.strip()}
    assert bars == {"a": 5, "b": 10, "c": 20, "d": 0}


@pytest.mark.parametrize("num_classes", [1, 19, 26, 150])
def test_all_classes_fit_an_ordinary_console(num_classes: int) -> None:
    per_class = {f"class{k}": k / 1000 for k in range(num_classes)}
    lines = printed(per_class, {})
    words = " ".join(lines).split()
    for name, iou in per_class.items():
        assert words[words.index(name) + 1] == f"{iou:.3f}"
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 80


def test_scores_are_picked_out_of_what_was_logged() -> None:
    metrics = {"val/miou": 0.5, "val/argmax/miou": 0.4, "val/iou/b": 0.2, "val/iou/a": 0.1, "train/loss": 3.0}
    assert headline_scores(metrics) == {"miou": 0.5, "argmax": 0.4}
    assert list(class_scores(metrics, ["a", "b", "c"]).items()) == [("a", 0.1), ("b", 0.2)]
    assert class_scores({"test/iou/a": 0.3}, ["a"], prefix="test/") == {"a": 0.3}


def test_the_csv_file_grows_by_a_line(tmp_path: Path) -> None:
    path = tmp_path / "run" / "per_class.csv"
    append_row(path, 100, PER_CLASS)
    append_row(path, 200, {**PER_CLASS, "tree": 0.25})
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["100", "200"]
    assert [row["tree"] for row in rows] == ["", "0.250000"]
    assert float(rows[0]["road"]) == pytest.approx(0.9314)


def test_a_csv_file_of_other_classes_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "per_class.csv"
    append_row(path, 100, {"road": 0.5})
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"columns step, road, not step, sky; .*paths\.run"):
        append_row(path, 200, {"sky": 0.5})
    assert path.read_bytes() == before
