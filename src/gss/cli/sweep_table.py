"""SweepTable: what a sweep (`-m`) ends with, one row per trial: what was varied and what came of it."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from gss.atomic_files import write_json, write_whole
from gss.cli.command_line import ERROR_FILE, RESULT_FILE

if TYPE_CHECKING:
    from rich.table import Table

ABSENT = "-"
log = logging.getLogger(__name__)


class Figure(NamedTuple):
    """One column: its title, the key in `result.json`, and how a value is written."""

    title: str
    key: str
    form: str = ".4f"


TRAINED = (Figure("trained parameters", "trained_parameters", ",d"), Figure("seconds", "seconds", ",.1f"))
SCORES = (("mIoU", "miou"), ("ceiling", "ceiling"), ("mAcc", "macc"), ("aAcc", "aacc"))
FIGURES = {  # by stage; None: a command that trains nothing
    "prior": (Figure("mIoU", "val/ceiling"), Figure("boundary F (3 px)", "val/boundary_f3"), *TRAINED),
    "conditioning": (*(Figure(title, f"val/{key}") for title, key in SCORES), *TRAINED),
    None: (*(Figure(*score) for score in SCORES), Figure("boundary F (3 px)", "boundary_f3")),
}


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Args:
        name: of its folder below that of the sweep.
        overrides: key -> value, as the sweep gave them.
        cells: title of a column -> the figure as text, for the figures that the run has.
        result: what the run returned; empty if it failed.
        error: one sentence on what went wrong; None if nothing did.
    """

    name: str
    overrides: dict[str, str]
    cells: dict[str, str]
    result: dict[str, Any]
    error: str | None

    @classmethod
    def read(cls, folder: Path, overrides: Sequence[str], stage: str | None) -> Trial:
        """What a trial left in its folder: `result.json`, or `error.txt` if it failed."""
        given = dict(override.lstrip("+~").partition("=")[::2] for override in overrides)
        if not (folder / RESULT_FILE).is_file():
            said = folder / ERROR_FILE
            return cls(folder.name, given, {}, {}, said.read_text().strip() if said.is_file() else "left no result")
        result = json.loads((folder / RESULT_FILE).read_text())
        known = (figure for figure in FIGURES[stage] if figure.key in result)
        return cls(folder.name, given, {title: _text(result[key], form) for title, key, form in known}, result, None)

    def line(self) -> str:
        """The closing line of the trial; what was given for it stands in Hydra's line before it."""
        figures = ", ".join(f"{title} {text}" for title, text in self.cells.items())
        return f"trial {self.name}: {f'failed: {self.error}' if self.error else figures}"


class SweepTable(Callback):
    """Collects the trials of a sweep; prints them as one table, which is also `sweep.md` and `sweep.json`."""

    def __init__(self) -> None:
        self.trials: list[Trial] = []

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Starts from nothing."""
        self.trials = []

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Reads what a trial left, and says it in one line; a run that is not of a sweep speaks for itself."""
        if config.hydra.mode == RunMode.RUN:
            return
        stage = OmegaConf.select(config, "stage.name")
        folder = Path(config.hydra.runtime.output_dir)
        self.trials.append(Trial.read(folder, job_return.overrides or (), stage))
        log.info(self.trials[-1].line())

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Prints the table and writes both files into the folder of the sweep."""
        from rich import get_console

        header, rows = table_rows(self.trials)
        folder = Path(config.hydra.sweep.dir)
        write_whole(folder / "sweep.md", markdown(header, rows))
        write_json(folder / "sweep.json", records(self.trials))
        get_console().print(_rich_table(header, rows))
        print(f"sweep: {folder / 'sweep.md'}")


def varied(trials: Sequence[Trial]) -> list[str]:
    """The keys whose value is not the same in every trial, in the order in which they were given."""
    keys = dict.fromkeys(key for trial in trials for key in trial.overrides)
    return [key for key in keys if len({trial.overrides.get(key) for trial in trials}) > 1]


def table_rows(trials: Sequence[Trial]) -> tuple[list[str], list[list[str]]]:
    """Header and rows as text: trial, what was varied, the figures that any trial has, and what went wrong if any."""
    keys, titles = varied(trials), list(dict.fromkeys(title for trial in trials for title in trial.cells))
    wrong = ["failed"] if any(trial.error for trial in trials) else []
    rows = []
    for trial in trials:
        cells = [*map(trial.overrides.get, keys), *map(trial.cells.get, titles), *(trial.error for _ in wrong)]
        rows.append([trial.name, *(ABSENT if cell is None else cell for cell in cells)])
    return ["trial", *keys, *titles, *wrong], rows


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table for a document."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def records(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """The trials for a program: what was varied, every figure by its key (null where it is not a number), the error."""
    keys = varied(trials)
    return [
        {
            "trial": trial.name,
            "varied": {key: trial.overrides.get(key) for key in keys},
            "result": {key: _strict(value) for key, value in trial.result.items()},
            "error": trial.error,
        }
        for trial in trials
    ]


def _text(value: Any, form: str) -> str:
    return ABSENT if value is None or (isinstance(value, float) and math.isnan(value)) else format(value, form)


def _strict(value: Any) -> Any:
    """A value that strict JSON has too: not a number becomes null."""
    if isinstance(value, Mapping):
        return {key: _strict(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rich_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in header:
        table.add_column(title, overflow="fold", justify="left")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
