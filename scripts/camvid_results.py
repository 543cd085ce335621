"""Trains camvid_cpu and both pixel twins with three seeds, evaluates them, and writes docs/results/camvid.md.

    python scripts/camvid_results.py [--jobs 2] [--seeds 0 1 2] [--subpixel-seeds 0] [--output outputs/camvid_results]

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

RUNS = {
    "generation": "experiment=camvid_cpu",
    "twin, bilinear": "experiment=camvid_cpu_pixel head=pixel_bilinear",
    "twin, sub-pixel": "experiment=camvid_cpu_pixel head=pixel_subpixel",
}
TARGET = Path("docs/results/camvid.md")


def main() -> None:
    """Runs what is missing, then writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each with its share of the cores")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--subpixel-seeds", type=int, nargs="*", help="fewer seeds for the twin that loses")
    parser.add_argument("--output", type=Path, default=Path("outputs/camvid_results"))
    arguments = parser.parse_args()
    output, prior = arguments.output.absolute(), arguments.output.absolute() / "prior.safetensors"
    if not prior.is_file():
        command("gss.train", f"stage=prior experiment=camvid_cpu prior={prior}", output / "prior", 1)
    fewer = arguments.seeds if arguments.subpixel_seeds is None else arguments.subpixel_seeds
    seeds = {name: fewer if name == "twin, sub-pixel" else arguments.seeds for name in RUNS}
    jobs = sorted(((name, seed) for name in RUNS for seed in seeds[name]), key=lambda job: job[1])
    with ThreadPoolExecutor(arguments.jobs) as pool:
        done = list(pool.map(lambda job: run(*job, output, prior, arguments.jobs), jobs))
    results = dict(zip(jobs, done, strict=True))
    for name in RUNS:  # now that nothing else runs
        results[name, seeds[name][0]]["seconds"] = measure_seconds(output, name, seeds[name][0])
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(report(results, seeds, arguments.jobs))
    print(TARGET.read_text())


def run(name: str, seed: int, output: Path, prior: Path, jobs: int) -> dict[str, Any]:
    """Trains and evaluates one seed of one kind; gives `metrics.json` with the training's `minutes` beside."""
    folder = folder_of(output, name, seed)
    record = folder / "record.json"
    if not record.is_file():
        start = time.monotonic()
        command("gss.train", f"stage=conditioning {RUNS[name]} seed={seed} prior={prior}", folder / "train", jobs)
        minutes = (time.monotonic() - start) / 60
        checkpoint = folder / "train" / "checkpoints" / "last.ckpt"
        command("gss.evaluate", f"checkpoint={checkpoint}", folder / "evaluate", jobs)
        metrics = json.loads((folder / "evaluate" / "metrics.json").read_text())
        record.write_text(json.dumps({**metrics, "minutes": minutes}, indent=2) + "\n")
    return dict(json.loads(record.read_text()))


def folder_of(output: Path, name: str, seed: int) -> Path:
    """Where the runs of one kind and seed lie."""
    return output / f"{name.replace(', ', '_')}_seed{seed}"


def command(module: str, overrides: str, folder: Path, jobs: int) -> None:
    """Runs one command of the package in its own process; its output goes to a file beside its results."""
    folder.mkdir(parents=True, exist_ok=True)
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}
    words = [sys.executable, "-m", module, *overrides.split(), f"hydra.run.dir={folder}"]
    print(f"python -m {module} {overrides}", flush=True)
    with (folder / "output.txt").open("w") as log:
        subprocess.run(words, check=True, stdout=log, stderr=log, env={**os.environ, **threads})


def measure_seconds(output: Path, name: str, seed: int, repeats: int = 25) -> dict[str, float]:
    """Median seconds from a photograph at the network's size to labels, per readout; batch 1, all cores."""
    import torch

    from gss.checkpoints import TrainedSegmenter

    trained = TrainedSegmenter.load(folder_of(output, name, seed) / "train" / "checkpoints" / "last.ckpt")
    image, times = torch.rand(1, 3, *trained.size), dict[str, list[float]]()
    with torch.inference_mode():
        for readout in trained.segmenter.readouts * (repeats + 3):  # in turns, so that they meet the same machine
            start = time.perf_counter()
            _ = trained.segmenter(image, readout).labels
            times.setdefault(readout, []).append(time.perf_counter() - start)
    return {readout: statistics.median(values[3:]) for readout, values in times.items()}


def report(results: dict[tuple[str, int], dict[str, Any]], seeds: dict[str, list[int]], jobs: int) -> str:
    """The page: overall scores with spread, and IoU per class, means over the seeds."""
    rows = {
        "generation, `argmax`": ("generation", "argmax"),
        "generation, `expected`": ("generation", "expected"),
        "auxiliary pixel head of the same network": ("generation", "pixel"),
        "pixel twin, bilinear": ("twin, bilinear", "pixel"),
        "pixel twin, sub-pixel": ("twin, sub-pixel", "pixel"),
    }
    first, tried = results["generation", seeds["generation"][0]], ", ".join(map(str, seeds["generation"]))
    lines = [
        "# CamVid on two CPU cores",
        "",
        f"CamVid val (101 photographs) at 192x256, seeds {tried}, last checkpoint, from random initialisation. mIoU, "
        "mAcc and aAcc in %, from one confusion matrix over the split; mean, standard deviation and each seed. The "
        f"ceiling of the tokenizer (patch dictionary, stride 8, 1024 codes) is {first['ceiling']:.1%} mIoU.",
        "",
        "```bash",
        "python -m gss.train stage=prior experiment=camvid_cpu",
        *(f"python -m gss.train stage=conditioning {words} seed=0   # and 1, 2" for words in RUNS.values()),
        "python scripts/camvid_results.py   # all of it, and this page",
        "```",
        "",
        "| readout | mIoU | mAcc | aAcc | training, min | s / image |",
        "|---|---|---|---|---|---|",
    ]
    for title, (name, readout) in rows.items():
        every = [results[name, seed] for seed in seeds[name]]
        cells = [with_seeds([run["readouts"][readout][key] for run in every]) for key in ("miou", "macc", "aacc")]
        minutes = statistics.mean(run["minutes"] for run in every)
        seconds = every[0]["seconds"][readout]
        lines.append(f"| {title} | {' | '.join(cells)} | {minutes:.1f} | {seconds:.3f} |")
    names = list(first["per_class"])
    lines += ["", "IoU per class in %, mean over the seeds:", "", f"| readout | {' | '.join(names)} |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for title, (name, readout) in rows.items():
        every = [results[name, seed]["readouts"][readout]["per_class"] for seed in seeds[name]]
        cells = [f"{100 * statistics.mean(run[key] or 0.0 for run in every):.1f}" for key in names]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Measured on {platform.machine()}, {os.cpu_count()} cores, PyTorch {version('torch')} on the CPU, {jobs} "
        "trainings at a time (the minutes are those of a training with its share of the cores); seconds per image "
        "afterwards, with all of them. What was learnt on the way: [camvid_notes.md](camvid_notes.md).",
        "",
    ]
    return "\n".join(lines)


def with_seeds(values: list[float]) -> str:
    """Mean in bold, standard deviation, each value: `**40.1** ± 0.9 (39.0, 40.5, 40.8)`."""
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"**{100 * statistics.mean(values):.1f}**{spread} ({', '.join(f'{100 * value:.1f}' for value in values)})"


if __name__ == "__main__":
    main()
