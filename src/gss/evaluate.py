"""`python -m gss.evaluate checkpoint=PATH`: a per-class table on the console, and `metrics.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gss.command_line import is_first_process, run
from gss.configuration import instantiate, to_plain


def evaluate(config: DictConfig) -> dict[str, Any]:
    """Scores a checkpoint on a split of its data set, or of another with the same classes.

    Args:
        config: `conf/evaluate.yaml`, composed and resolved.

    Returns:
        What `metrics.json` holds: `miou, macc, aacc, ceiling, readout, per_class`, and every readout's scores
        under `readouts`. Figures in [0, 1]; null where a class does not occur or there is no tokenizer.
    """
    from gss.checkpoints import TrainedSegmenter
    from gss.stages.evaluation import evaluate_segmenter

    trained = TrainedSegmenter.load(config.checkpoint)
    data = to_plain(config).get("data") or dict(trained.config["data"])
    if config.root is not None:
        data = _at_root(data, trained.config["data"].get("root"), str(Path(config.root).absolute()))
    datamodule = instantiate(data)
    metrics = evaluate_segmenter(trained, datamodule, config.split, config.readout, to_plain(config))
    if is_first_process():
        _report(metrics, f"{data['name']} {config.split}, readout {metrics['readout']}", Path(config.paths.run))
    return {**metrics, "objective": metrics["miou"]}


def _report(metrics: Mapping[str, Any], title: str, folder: Path) -> None:
    """Shows the table and writes `metrics.json`."""
    from rich import get_console

    from gss.tables import class_table

    shown = {key: metrics[key] for key in ("miou", "macc", "aacc", "ceiling") if metrics[key] is not None}
    per_class = {name: math.nan if iou is None else iou for name, iou in metrics["per_class"].items()}
    get_console().print(class_table(per_class, shown, title))
    target = folder / "metrics.json"
    target.write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"metrics: {target}")


def _at_root(node: Any, old: str | None, new: str) -> Any:
    """Replaces the data set's root folder wherever the configuration repeats it."""
    if isinstance(node, Mapping):
        return {key: _at_root(value, old, new) for key, value in node.items()}
    return new if node == old and old is not None else node


def main() -> None:
    """Console script `gss-evaluate`."""
    run(evaluate, "evaluate", "evaluate")


if __name__ == "__main__":
    main()
