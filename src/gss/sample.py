"""`python -m gss.sample prior=PATH`: new label maps, and label maps with a region erased and completed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gss.atomic_files import write_json
from gss.cli.command_line import run
from gss.cli.configuration import instantiate, to_plain, visited_data

KEPT = ("prior", "num", "seed", "steps", "temperature", "randomness", "region", "draws")  # settings in `sample.json`


def sample(config: DictConfig) -> dict[str, Any]:
    """Samples label maps from a stage-one artefact that has a token model.

    Args:
        config: `conf/sample.yaml`, composed and resolved.

    Returns:
        What `sample.json` holds: the settings, `distances` of sampled and of permuted maps to real ones (without
        `input`), and `completion`, how often a completed pixel has the class that was erased; figures in [0, 1].
        `objective` is the mean distance of the sampled maps, or the share of completed pixels that disagree.
    """
    from rich import get_console

    from gss.display.tables import comparison_table
    from gss.runs.label_generator import LabelGenerator, SamplingSettings
    from gss.runs.prediction import check_device
    from gss.runs.sampling import read_label_folder, spread_label_maps, write_completions, write_samples

    check_device(config.device)
    for key in ("num", "completions", "draws"):
        if config[key] < 1:
            raise ValueError(f"{key}={config[key]} must be at least 1")
    plain, output, seed = to_plain(config), Path(config.output), config.seed
    label_generator = LabelGenerator.load(config.prior, config.device)
    datamodule = instantiate(visited_data(plain.get("data"), label_generator.data))
    label_space = datamodule.label_space
    label_generator.check_matches(label_space, datamodule.size)
    erased = label_generator.erased(list(config.region))
    settings = SamplingSettings(config.steps, config.temperature, config.randomness)
    result: dict[str, Any] = {key: plain[key] for key in KEPT}
    if config.input is None:
        rows = write_samples(label_generator, datamodule, config.num, seed, settings, output)
        get_console().print(comparison_table(rows, "distance to the validation maps, in [0, 1]"))
        result["distances"] = rows
        names, labels = spread_label_maps(datamodule, "val", config.completions)
    else:
        names, labels = read_label_folder(Path(config.input), label_space, datamodule.size)
    result["completion"] = write_completions(
        label_generator, label_space, names, labels, erased, config.draws, seed, settings, output
    )
    write_json(output / "sample.json", result)
    print(f"samples: {output}")
    return {**result, "objective": _objective(result)}


def _objective(result: Mapping[str, Any]) -> float:
    """One figure to be small: how far sampled maps are from real ones, or how often completions disagree."""
    if "distances" in result:
        sampled: list[float] = list(result["distances"]["drawn"].values())
        return sum(sampled) / len(sampled)
    return 1 - float(result["completion"]["completed"] or 0.0)


def main() -> None:
    """Console script `gss-sample`."""
    run(sample, "sample", "sample")


if __name__ == "__main__":
    main()
