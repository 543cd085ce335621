"""`python -m gss.evaluate checkpoint=PATH`, or `mode=reconstruction prior=PATH`: a per-class table and `metrics.json`.

The second measures stage one alone, and draws its palette, its codebook and its worst reconstructions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gss.atomic_files import write_json
from gss.cli.command_line import is_first_process, run
from gss.cli.configuration import instantiate, to_plain, visited_data
from gss.registry import one_of

MODES = ("segmentation", "reconstruction")
HEADLINE = ("miou", "macc", "aacc", "ceiling", "boundary_f3", "boundary_iou", "ece", "nll", "brier", "auroc", "aupr")


def evaluate(config: DictConfig) -> dict[str, Any]:
    """Scores a checkpoint or a stage-one artefact on a split of its data set, or of another with the same classes.

    Args:
        config: `conf/evaluate.yaml`, composed and resolved.

    Returns:
        What `metrics.json` holds. For mode=segmentation: `miou, macc, aacc, boundary_f3, boundary_iou, ece, nll, brier,
        auroc, aupr, ceiling, readout, per_class`, and every readout's scores under `readouts`; for
        mode=reconstruction: `ceiling, macc, aacc, per_class, boundary_f3, boundary_f3_per_class, third_class_rate,
        vocab_size, codebook_usage, codebook_perplexity, closest_pair`. In both, `conditions` and `condition_mean` where
        the split has named parts, `datasets` and `harmonic_mean` where data sets elsewhere are visited. Figures are
        those of docs/metrics.md; null where a class does not occur or there is no tokenizer.

    Raises:
        ValueError: if the words of the command line do not go together, or what they name does not.
    """
    _check_words(config)
    return _reconstruction(config) if config.mode == "reconstruction" else _segmentation(config)


def _check_words(config: DictConfig) -> None:
    """Refuses words that do not go with the mode, before anything heavy is imported."""
    one_of(MODES, "mode", config.mode)
    given = [key for key in ("prior", "checkpoint", "tokenizer", "maskige", "readout") if config.get(key)]
    if config.mode == "segmentation":
        if stray := [key for key in given if key not in ("checkpoint", "readout")]:
            raise ValueError(f"{stray[0]} was given, but mode=segmentation takes all of it from checkpoint=PATH")
        if not given or given == ["readout"]:
            raise ValueError("mode=segmentation scores a trained network: give checkpoint=PATH of stage=conditioning")
    elif {"tokenizer", "maskige"} & set(given) or not {"prior", "checkpoint"} & set(given):
        raise ValueError(
            "mode=reconstruction measures a finished stage one: run `python -m gss.train stage=prior` with the "
            "tokenizer and maskige of your choice first, then give prior=PATH without them"
        )
    elif len(given) > 1:
        raise ValueError(f"mode=reconstruction takes prior=PATH or checkpoint=PATH alone, got {' and '.join(given)}")


def _segmentation(config: DictConfig) -> dict[str, Any]:
    from gss.assembly.checkpoints import TrainedSegmenter
    from gss.runs.evaluation import evaluate_segmenter

    trained = TrainedSegmenter.load(config.checkpoint)
    data = _data(config, trained.config["data"])
    datamodule = instantiate(data)
    with datamodule.workers.watched():
        metrics = evaluate_segmenter(trained, datamodule, config.split, config.readout, to_plain(config))
    if is_first_process():
        _report(metrics, data["name"], f"{config.split}, readout {metrics['readout']}", Path(config.paths.run))
    return {**metrics, "objective": metrics["miou"]}


def _reconstruction(config: DictConfig) -> dict[str, Any]:
    from gss.assembly.checkpoints import StageOne
    from gss.runs.reconstruction import measure_reconstruction, save_pictures

    stage_one = StageOne.load(config.prior, config.checkpoint)
    data, folder = _data(config, stage_one.data), Path(config.paths.run)
    datamodule = instantiate(data)
    report = measure_reconstruction(stage_one, datamodule, config.split, to_plain(config))
    if is_first_process():
        _report(report.metrics, data["name"], f"{config.split}, reconstruction of labels", folder)
        _report_codes_and_colours(report.metrics)
        for path in save_pictures(stage_one, datamodule.label_space, report, folder):
            print(f"picture: {path}")
    return {**report.metrics, "objective": report.metrics["ceiling"]}


def _data(config: DictConfig, trained_on: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings of the data set to score on: those of the command line, else those that the weights came from."""
    data = visited_data(to_plain(config).get("data"), trained_on)
    if data is None:
        raise ValueError(f"prior={config.prior} does not say on which data it was made, as older ones: give data=NAME")
    if config.root is not None:
        data = _at_root(data, (trained_on or data).get("root"), str(Path(config.root).absolute()))
    return data


def _report(metrics: Mapping[str, Any], name: str, what: str, folder: Path) -> None:
    """Shows the tables of a data set and of its parts, and writes `metrics.json`."""
    from rich import get_console

    from gss.display.tables import class_table, parts_table

    shown = {key: metrics[key] for key in HEADLINE if metrics.get(key) is not None}
    per_class = {name: math.nan if iou is None else iou for name, iou in metrics["per_class"].items()}
    get_console().print(class_table(per_class, shown, f"{name} {what}"))
    if (parts := parts_table(metrics, name, what)) is not None:
        get_console().print(parts)
    write_json(folder / "metrics.json", metrics)
    print(f"metrics: {folder / 'metrics.json'}")


def _report_codes_and_colours(metrics: Mapping[str, Any]) -> None:
    """Says in words what the table has no room for."""
    known: dict[str, Any] = {key: math.nan if figure is None else figure for key, figure in metrics.items()}
    used, pair = round(known["codebook_usage"] * known["vocab_size"]), known["closest_pair"]
    print(f"boundaries read as a phantom class: {known['third_class_rate']:.2%} of the pixels within 3 of them")
    print(f"codebook: {used} of {known['vocab_size']} codes occur, perplexity {known['codebook_perplexity']:.1f}")
    print(f"closest pair of colours: {' and '.join(pair['names'])}, {pair['distance']:.1f} apart on the 0-255 scale")


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
