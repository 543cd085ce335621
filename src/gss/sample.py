"""`python -m gss.sample prior=PATH`: new label maps, and label maps with a region erased and completed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gss.cli.command_line import run
from gss.cli.configuration import instantiate, to_plain, visited_data


def sample(config: DictConfig) -> dict[str, Any]:
    """Draws from a stage-one artefact that has a token model.

    Args:
        config: `conf/sample.yaml`, composed and resolved.

    Returns:
        What `sample.json` holds: the settings, `distances` of drawn and of shuffled maps to real ones (without
        `input`), and `completion`, how often a completed pixel has the class that was erased; figures in [0, 1].
        `objective` is the mean distance of the drawn maps, or the share of completed pixels that disagree.
    """
    from gss.runs.label_generator import LabelGenerator, SamplingSettings
    from gss.runs.prediction import check_device

    check_device(config.device)
    _check_numbers(config)
    plain, output = to_plain(config), Path(config.output)
    prior = LabelGenerator.load(config.prior, config.device)
    datamodule = instantiate(visited_data(plain.get("data"), prior.data))
    prior.check_matches(datamodule.label_space, datamodule.size)
    erased = prior.erased(list(config.region))
    drawing = SamplingSettings(config.steps, config.temperature, config.randomness)
    kept = ("prior", "num", "seed", "steps", "temperature", "randomness", "region", "draws")
    result: dict[str, Any] = {key: plain[key] for key in kept}
    if config.input is None:
        result["distances"] = _draw(prior, datamodule, config, drawing, output)
    result["completion"] = _complete(prior, datamodule, erased, config, drawing, output)
    (output / "sample.json").write_text(json.dumps(result, indent=2) + "\n")
    print(f"samples: {output}")
    return {**result, "objective": _objective(result)}


def _check_numbers(config: DictConfig) -> None:
    """Refuses to draw nothing, before anything heavy is done."""
    for key in ("num", "completions", "draws"):
        if config[key] < 1:
            raise ValueError(f"{key}={config[key]} must be at least 1")


def _draw(prior: Any, datamodule: Any, config: DictConfig, drawing: Any, output: Path) -> dict[str, dict[str, float]]:
    """New label maps, and a table of their distances."""
    from rich import get_console

    from gss.display.tables import comparison_table
    from gss.runs.sampling import write_samples

    rows = write_samples(prior, datamodule, config.num, config.seed, drawing, output)
    get_console().print(comparison_table(rows, "distance to the validation maps, in [0, 1]"))
    return rows


def _complete(
    prior: Any, datamodule: Any, erased: Any, config: DictConfig, drawing: Any, output: Path
) -> dict[str, float | None]:
    """Completions of the given label maps, else of some validation maps."""
    from gss.runs.sampling import read_label_folder, spread_label_maps, write_completions

    if config.input is None:
        names, labels = spread_label_maps(datamodule, "val", config.completions)
    else:
        names, labels = read_label_folder(Path(config.input), datamodule.label_space, datamodule.size)
    settings = (erased, config.draws, config.seed, drawing, output)
    return write_completions(prior, datamodule.label_space, names, labels, *settings)


def _objective(result: Mapping[str, Any]) -> float:
    """One figure to be small: how far drawn maps are from real ones, or how often completions are not as they were."""
    if "distances" in result:
        drawn: list[float] = list(result["distances"]["drawn"].values())
        return sum(drawn) / len(drawn)
    return 1 - float(result["completion"]["completed"] or 0.0)


def main() -> None:
    """Console script `gss-sample`."""
    run(sample, "sample", "sample")


if __name__ == "__main__":
    main()
