"""Trains camvid_cpu, its pixel twin and what each choice changes, evaluates them, and writes docs/results/camvid.md.

    python scripts/camvid_results.py [--jobs 2] [--seeds 0 1 2] [--ablation-steps 800] [--output outputs/camvid_results]
    python scripts/camvid_results.py --experiment camvid_full --ablation-seeds --jobs 6   # docs/results/camvid_full.md

Runs that are finished already are not repeated, so the command can be interrupted and called again.
"""

from __future__ import annotations

import argparse
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
from typing import Any

GENERATION, TWIN = "generation", "pixel twin"
ABLATION = {  # one choice of the generation's recipe changed at a time; the first two are the recipes themselves
    "generation as above": (GENERATION, ""),
    "pixel twin as above": (TWIN, ""),
    "sub-pixel twin": (TWIN, "head=pixel_subpixel"),
    "no detail path": (GENERATION, "fusion.detail=0"),
    "pixel twin, no detail path": (TWIN, "fusion.detail=0"),
    "no pixel evidence in the token head": (GENERATION, "head.pixel_evidence=false"),
    "free head": (GENERATION, "head=free"),
    "soft posterior": (GENERATION, "stage.posterior.name=soft"),
    "label smoothing over neighbouring tokens": (GENERATION, "stage.posterior.name=smoothed"),
    "focal weighting, gamma 2": (GENERATION, "stage.focal=2.0"),
    "label loss through the expected decoding, 0.3": (GENERATION, "stage.label_weight=0.3"),
    "ignored pixels masked, not filled": (GENERATION, "stage.ignore_policy=masked"),
}
FIGURES = {"miou": "mIoU", "macc": "mAcc", "aacc": "aAcc", "boundary_f3": "boundary F, 3 px"}
PAGES = {  # of experiments: file in docs/results, title, size
    "camvid_cpu": ("camvid.md", "CamVid on two CPU cores", "192x256"),
    "camvid_full": ("camvid_full.md", "CamVid at full size on a GPU", "360x480"),
}


def main() -> None:
    """Runs what is missing, then writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", choices=PAGES, default="camvid_cpu", help="its twin is NAME_pixel")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each with its share of the cores")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ablation-seeds", type=int, nargs="*", default=[0], help="none: no ablation")
    parser.add_argument("--ablation-steps", type=int, default=800)
    parser.add_argument("--output", type=Path, default=Path("outputs/camvid_results"))
    arguments = parser.parse_args()
    output, prior = arguments.output.absolute(), arguments.output.absolute() / "prior.safetensors"
    runs = {GENERATION: f"experiment={arguments.experiment}", TWIN: f"experiment={arguments.experiment}_pixel"}
    if not prior.is_file():
        command("gss.train", f"stage=prior {runs[GENERATION]} prior={prior}", output / "prior", 1)
    steps = f"max_steps={arguments.ablation_steps} val_every={arguments.ablation_steps}"
    jobs = {(name, seed): f"{words} seed={seed}" for seed in arguments.seeds for name, words in runs.items()}
    for seed in arguments.ablation_seeds:
        jobs |= {(name, seed): f"{runs[run]} {words} {steps} seed={seed}" for name, (run, words) in ABLATION.items()}
    with ThreadPoolExecutor(arguments.jobs) as pool:
        done = list(
            pool.map(lambda job: run(output / folder_name(*job[0]), job[1], prior, arguments.jobs), jobs.items())
        )
    results = dict(zip(jobs, done, strict=True))
    for name in runs:  # now that nothing else runs
        first = (name, arguments.seeds[0])
        results[first]["seconds"] = measure_seconds(output / folder_name(*first))
    target = Path("docs/results") / PAGES[arguments.experiment][0]
    target.parent.mkdir(parents=True, exist_ok=True)
    page = [*main_tables(results, runs, arguments)]
    page += ablation_table(results, arguments.ablation_seeds, arguments.ablation_steps)
    target.write_text("\n".join(page))
    print(target.read_text())


def run(folder: Path, overrides: str, prior: Path, jobs: int) -> dict[str, Any]:
    """Trains and evaluates one row with one seed; gives `metrics.json` with the training's `minutes` beside."""
    record = folder / "record.json"
    if not record.is_file():
        start = time.monotonic()
        command("gss.train", f"stage=conditioning {overrides} prior={prior}", folder / "train", jobs)
        minutes = (time.monotonic() - start) / 60
        checkpoint = folder / "train" / "checkpoints" / "last.ckpt"
        command("gss.evaluate", f"checkpoint={checkpoint}", folder / "evaluate", jobs)
        metrics = json.loads((folder / "evaluate" / "metrics.json").read_text())
        record.write_text(json.dumps({**metrics, "minutes": minutes}, indent=2) + "\n")
    return dict(json.loads(record.read_text()))


def folder_name(name: str, seed: int) -> str:
    """Where a row with a seed lies."""
    return f"{name.replace(', ', '_').replace(' ', '_')}_seed{seed}"


def command(module: str, overrides: str, folder: Path, jobs: int) -> None:
    """Runs one command of the package in its own process; its output goes to a file beside its results."""
    folder.mkdir(parents=True, exist_ok=True)
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}
    words = [sys.executable, "-m", module, *overrides.split(), f"hydra.run.dir={folder}"]
    print(f"python -m {module} {overrides}", flush=True)
    with (folder / "output.txt").open("w") as log:
        subprocess.run(words, check=True, stdout=log, stderr=log, env={**os.environ, **threads})


def measure_seconds(folder: Path, repeats: int = 25) -> dict[str, float]:
    """Median seconds from an image at the network's size to labels, per readout; batch 1, all cores."""
    import torch

    from gss.assembly.checkpoints import TrainedSegmenter

    trained = TrainedSegmenter.load(folder / "train" / "checkpoints" / "last.ckpt")
    image, times = torch.rand(1, 3, *trained.size), dict[str, list[float]]()
    with torch.inference_mode():
        for readout in trained.segmenter.readouts * (repeats + 3):  # in turns, so that they meet the same machine
            start = time.perf_counter()
            _ = trained.segmenter(image, readout).labels()
            times.setdefault(readout, []).append(time.perf_counter() - start)
    return {readout: statistics.median(values[3:]) for readout, values in times.items()}


def main_tables(
    results: dict[tuple[str, int], dict[str, Any]], runs: dict[str, str], arguments: argparse.Namespace
) -> list[str]:
    """Overall scores with spread, and IoU per class, means over the seeds."""
    seeds, (_, title, size) = arguments.seeds, PAGES[arguments.experiment]
    rows = {
        "generation, `argmax`": (GENERATION, "argmax"),
        "generation, `expected`": (GENERATION, "expected"),
        "auxiliary pixel head of the same network": (GENERATION, "pixel"),
        "pixel twin": (TWIN, "pixel"),
    }
    first = results[GENERATION, seeds[0]]
    lines = [
        f"# {title}",
        "",
        f"CamVid val (101 images) at {size}, seeds {', '.join(map(str, seeds))}, last checkpoint, from random "
        "initialisation. Figures in %, from one confusion matrix (and one count of boundaries) over the split; mean, "
        "standard deviation and each seed. The pixel twin is the same network with the pixel head alone, trained on "
        "as many images. The ceiling of the tokenizer (patch dictionary, stride 8, 1024 codes) is "
        f"{first['ceiling']:.1%} mIoU.",
        "",
        "```bash",
        f"python -m gss.train stage=prior {runs[GENERATION]}",
        *(f"python -m gss.train stage=conditioning {words} seed=0   # and the other seeds" for words in runs.values()),
        f"python scripts/camvid_results.py --{runs[GENERATION].replace('=', ' ')}   # all of it, and this page",
        "```",
        "",
        f"| readout | {' | '.join(FIGURES.values())} | training, min | s / image |",
        "|---" * (len(FIGURES) + 3) + "|",
    ]
    for title, (name, readout) in rows.items():
        every = [results[name, seed] for seed in seeds]
        cells = [with_seeds([run["readouts"][readout][key] for run in every]) for key in FIGURES]
        minutes = statistics.mean(run["minutes"] for run in every)
        lines.append(f"| {title} | {' | '.join(cells)} | {minutes:.1f} | {every[0]['seconds'][readout]:.3f} |")
    names = list(first["per_class"])
    lines += ["", "IoU per class in %, mean over the seeds:", "", f"| readout | {' | '.join(names)} |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for title, (name, readout) in rows.items():
        every = [results[name, seed]["readouts"][readout]["per_class"] for seed in seeds]
        cells = [f"{100 * statistics.mean(run[key] or 0.0 for run in every):.1f}" for key in names]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return [
        *lines,
        "",
        f"Trained on {device_name(arguments.experiment)}, {platform.machine()}, {os.cpu_count()} cores, PyTorch "
        f"{version('torch')}, {arguments.jobs} trainings at a time (the minutes are those of a training with its "
        "share); seconds per image afterwards, on all cores of the CPU. What was learnt on the way: "
        "[camvid_notes.md](camvid_notes.md).",
        "",
    ]


def device_name(experiment: str) -> str:
    """What the experiment trains on."""
    import torch

    return torch.cuda.get_device_name() if "GPU" in PAGES[experiment][1] else "the CPU"


def ablation_table(results: dict[tuple[str, int], dict[str, Any]], seeds: list[int], steps: int) -> list[str]:
    """What one choice of the recipe is worth, in a shorter training; nothing without seeds."""
    if not seeds:
        return []
    lines = [
        "## What each choice is worth",
        "",
        f"One choice of the recipe changed at a time, {steps} steps, seeds {', '.join(map(str, seeds))}; `expected` "
        "for generation, `pixel` for the twins. Read differences against the spread of the seeds in the table above.",
        "",
        f"| training | {' | '.join(FIGURES.values())} |",
        "|---" * (len(FIGURES) + 1) + "|",
    ]
    for name in ABLATION:
        every = [results[name, seed] for seed in seeds]
        cells = [with_seeds([run[key] for run in every]) for key in FIGURES]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def with_seeds(values: list[float]) -> str:
    """Mean in bold, standard deviation, each value: `**40.1** ± 0.9 (39.0, 40.5, 40.8)`."""
    if len(values) == 1:
        return f"{100 * values[0]:.1f}"
    spread = f" ± {100 * statistics.stdev(values):.1f}"
    return f"**{100 * statistics.mean(values):.1f}**{spread} ({', '.join(f'{100 * value:.1f}' for value in values)})"


if __name__ == "__main__":
    main()
