"""Scores CamVid trainings and their pixel twins in drawn adverse conditions; writes docs/results/camvid_adverse.md.

    python scripts/adverse_results.py --generation CKPT... --twin CKPT... [--output outputs/adverse_results] [--jobs 2]

One checkpoint of each per seed, in the same order. What was scored already is not scored again, so the command can be
interrupted and called again; remove the folder of --output after a change of the code.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from gss.assembly.checkpoints import read_checkpoint
from gss.data.adverse import CLEAN, KINDS, STRENGTHS, Adverse

EVALUATION = "data=camvid_adverse +data@data.elsewhere.camvid=camvid"  # the second for the calibration on it alone
TARGET = Path("docs/results/camvid_adverse.md")
Record = dict[str, Any]


class Column(NamedTuple):
    """A readout of the table: its title, whether it is the twin's, its name in `metrics.json`."""

    title: str
    twin: bool
    readout: str


COLUMNS = (
    Column("generation, `expected`", False, "expected"),
    Column("generation, `argmax`", False, "argmax"),
    Column("its pixel head", False, "pixel"),
    Column("pixel twin", True, "pixel"),
)


class Pair(NamedTuple):
    """What was measured of a generation and its twin, trained with one seed."""

    generation: Record
    twin: Record

    def figures(self, column: Column) -> Record:
        """Figures of a readout under all conditions."""
        return dict((self.twin if column.twin else self.generation)["readouts"][column.readout])

    def clean_figures(self, column: Column) -> Record:
        """Figures of a readout on the images as they are."""
        record = self.twin if column.twin else self.generation
        return dict(record["datasets"]["camvid"]["readouts"][column.readout])

    def miou(self, column: Column, conditions: list[str]) -> float:
        """Mean over conditions of their mIoU."""
        found = self.figures(column)["conditions"]
        return statistics.mean(found[condition]["miou"] for condition in conditions)


def main() -> None:
    """Scores what is missing, then writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generation", type=Path, nargs="+", required=True, help="checkpoints of the full network")
    parser.add_argument("--twin", type=Path, nargs="+", required=True, help="checkpoints of the pixel twin, as many")
    parser.add_argument("--output", type=Path, default=Path("outputs/adverse_results"))
    parser.add_argument("--jobs", type=int, default=1, help="evaluations at a time, each with its share of the cores")
    parser.add_argument("--about", default="", help="a sentence about the checkpoints, for the page")
    arguments = parser.parse_args()
    try:
        seeds = common_seeds(arguments.generation, arguments.twin)
    except ValueError as mistake:
        parser.error(str(mistake))
    couples = list(zip(arguments.generation, arguments.twin, strict=True))
    checkpoints = [checkpoint for couple in couples for checkpoint in couple]  # seed by seed
    with ThreadPoolExecutor(arguments.jobs) as pool:
        records = list(pool.map(lambda path: measure(path, arguments.output.absolute(), arguments.jobs), checkpoints))
    pairs = [Pair(*both) for both in zip(records[::2], records[1::2], strict=True)]
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text("\n".join(page(pairs, seeds, arguments.about)))
    print(TARGET.read_text())


def common_seeds(generation: list[Path], twin: list[Path]) -> list[int]:
    """Seeds of the trainings, the same for both of each pair.

    Raises:
        ValueError: the lists do not go together, or a checkpoint is not what its list is for.
    """
    if len(generation) != len(twin):
        raise ValueError(
            f"--generation has {len(generation)} checkpoints, --twin {len(twin)}; give one of each per seed"
        )
    seeds = []
    for paths in zip(generation, twin, strict=True):
        both = [read_checkpoint(path)["gss"] for path in paths]
        for path, record, generative in zip(paths, both, (True, False), strict=True):
            if (record["prior"] is not None) != generative:
                kind = "the pixel twin" if generative else "a generation"
                raise ValueError(
                    f"{path} is a checkpoint of {kind}; give it to --{'twin' if generative else 'generation'}"
                )
        first, second = (record["config"]["seed"] for record in both)
        if first != second:
            raise ValueError(
                f"{paths[0]} has seed {first}, {paths[1]} seed {second}; give both lists in the same order"
            )
        seeds.append(first)
    return seeds


def measure(checkpoint: Path, output: Path, jobs: int) -> Record:
    """Evaluates a checkpoint in its own process; gives `metrics.json` with `minutes` and `commit` beside."""
    with checkpoint.open("rb") as file:
        folder = output / hashlib.file_digest(file, "sha256").hexdigest()[:16]
    record = folder / "record.json"
    if not record.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        evaluate(checkpoint.absolute(), folder, max(1, (os.cpu_count() or 1) // jobs))
        metrics = json.loads((folder / "metrics.json").read_text())
        beside = {"minutes": (time.monotonic() - start) / 60, "commit": commit()}
        record.write_text(json.dumps({**metrics, **beside}, indent=2) + "\n")
    return dict(json.loads(record.read_text()))


def evaluate(checkpoint: Path, folder: Path, threads: int) -> None:
    """Runs `gss.evaluate`; its output goes to a file beside its results."""
    quoted = ["'" + str(path).replace("'", "\\'") + "'" for path in (checkpoint, folder)]
    words = [*EVALUATION.split(), f"checkpoint={quoted[0]}", f"hydra.run.dir={quoted[1]}"]
    print(f"python -m gss.evaluate {' '.join(words[:-1])}", flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with (folder / "output.txt").open("w") as log:
        command = [sys.executable, "-m", "gss.evaluate", *words]
        if subprocess.run(command, stdout=log, stderr=log, env=environment).returncode:
            raise SystemExit(f"gss.evaluate failed; {folder / 'output.txt'} says why")


def commit() -> str:
    """The commit of the code, short, `-dirty` with changes; empty outside of a repository."""
    here = Path(__file__).resolve().parent
    words = ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip()


def page(pairs: list[Pair], seeds: list[int], about: str = "") -> list[str]:
    """The page, line by line."""
    return [*introduction(seeds), *miou_table(pairs), *calibration_table(pairs), *circumstances(pairs, about)]


def introduction(seeds: list[int]) -> list[str]:
    """What this is, and what it is not."""
    named = f"seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]}"
    spread = "mean and standard deviation over the seeds" if len(seeds) > 1 else "one seed, so no spread is known"
    return [
        "# CamVid under drawn adverse conditions",
        "",
        "**Our stand-in for Cityscapes -> ACDC where no ACDC is at hand.** Fog, night, rain, snow, sun glare, blur, "
        "noise and JPEG are drawn on the images of CamVid val (`data=camvid_adverse`, "
        "[what is drawn](../data.md#drawn-adverse-conditions)); no network saw any of it in training. Drawn weather is "
        "not weather: read the table as how two networks compare, not as figures for real fog or night. With ACDC at "
        "hand, use `data=cityscapes_to_acdc`.",
        "",
        "CamVid val at 192x256: 101 images, each once as it is and once per kind and strength, 2525 in all; "
        f"{named}. mIoU in %, from one confusion matrix per condition; {spread}. The pixel twin is the same network "
        "with the pixel head alone, trained on as many images. The last column is generation, `expected`, less "
        "the twin of its seed.",
        "",
    ]


def miou_table(pairs: list[Pair]) -> list[str]:
    """mIoU of each condition, and means; in how many conditions generation is ahead."""
    rows = {CLEAN: [CLEAN]}
    for kind in KINDS:
        named = [f"{kind}-{strength}" for strength in STRENGTHS]
        title = kind.replace("_", " ")
        rows |= {f"{title} {strength}": [name] for strength, name in zip(STRENGTHS, named, strict=True)}
        rows[f"**{title}, mean**"] = named
    for strength in STRENGTHS:
        rows[f"**all at strength {strength}, mean**"] = [f"{kind}-{strength}" for kind in KINDS]
    degraded = list(Adverse().conditions[1:])
    rows[f"**all {len(degraded)}, mean**"] = degraded
    lines = [
        f"| condition | {' | '.join(column.title for column in COLUMNS)} | generation - twin |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for title, conditions in rows.items():
        cells = [with_spread([pair.miou(column, conditions) for pair in pairs]) for column in COLUMNS]
        lines.append(f"| {title} | {' | '.join(cells)} | {with_spread(differences(pairs, conditions), '+')} |")
    kept = [[pair.miou(column, degraded) / pair.miou(column, [CLEAN]) for pair in pairs] for column in COLUMNS]
    lines.append(f"| **all {len(degraded)}, share of clean** | {' | '.join(map(with_spread, kept))} | |")
    found = [differences(pairs, [condition]) for condition in degraded]
    ahead, behind = sum(min(one) > 0 for one in found), sum(max(one) < 0 for one in found)
    every = "with every seed" if len(pairs) > 1 else "with this seed"
    return [
        *lines,
        "",
        f"{every.capitalize()}, generation is ahead of its twin in {ahead} and behind in {behind} of the "
        f"{len(degraded)} degraded conditions.",
        "",
    ]


def differences(pairs: list[Pair], conditions: list[str]) -> list[float]:
    """Generation, `expected`, less its twin, for each seed."""
    return [pair.miou(COLUMNS[0], conditions) - pair.miou(COLUMNS[-1], conditions) for pair in pairs]


def calibration_table(pairs: list[Pair]) -> list[str]:
    """Whether the class probabilities know that they are wrong."""
    lines = [
        "## Whether the probabilities can be trusted",
        "",
        "Expected calibration error (less is better) and AUROC of errors (more is better) in %, as "
        "[metrics.md](../metrics.md) defines them, on the images as they are and pooled over all 25 conditions.",
        "",
        "| readout | ece, clean | ece, all | auroc, clean | auroc, all |",
        "|---|---|---|---|---|",
    ]
    for column in COLUMNS:
        cells = [
            with_spread([figures(column)[key] for figures in sources])
            for key in ("ece", "auroc")
            for sources in ([pair.clean_figures for pair in pairs], [pair.figures for pair in pairs])
        ]
        lines.append(f"| {column.title} | {' | '.join(cells)} |")
    return [*lines, ""]


def circumstances(pairs: list[Pair], about: str) -> list[str]:
    """How to get the same figures, and on what they were measured."""
    minutes = [statistics.mean(record["minutes"] for record in kind) for kind in zip(*pairs, strict=True)]
    commits = ", ".join(sorted({record["commit"] or "unknown" for pair in pairs for record in pair}))
    return [
        "## How it was measured",
        "",
        "```bash",
        f"python -m gss.evaluate {EVALUATION} checkpoint=PATH   # one checkpoint, its table and metrics.json",
        "python scripts/adverse_results.py --generation CKPT... --twin CKPT...   # this page",
        "```",
        "",
        *([about, ""] if about else []),
        f"Evaluated at commit {commits} on {platform.machine()}, {os.cpu_count()} cores, PyTorch {version('torch')} "
        f"on the CPU, albumentations {version('albumentations')}; {minutes[0]:.0f} minutes for a generation with its "
        f"three readouts, {minutes[1]:.0f} for a twin.",
        "",
    ]


def with_spread(values: list[float], sign: str = "") -> str:
    """Mean and standard deviation in %: `40.1 ± 0.9`; the mean alone of one value."""
    mean = f"{100 * statistics.mean(values):{sign}.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * statistics.stdev(values):.1f}"


if __name__ == "__main__":
    main()
