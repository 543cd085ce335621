"""Both stages on drawn street scenes, the pixel twin beside them, and one panel: `make demo`."""

from __future__ import annotations

import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich import get_console

from gss.cli.command_line import wait_patiently
from gss.cli.configuration import config_dir, register_resolvers
from gss.evaluate import evaluate
from gss.train import train

OUTPUTS = Path("outputs/demo").absolute()


def main() -> None:
    """Runs the commands that the README shows, in one process, and ends with one line of figures."""
    wait_patiently()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # steps this small are slower on two: the loaders need a core too
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    say("1/4  stage=prior: drawing scenes, fitting the dictionary, measuring the ceiling")
    command("train", "prior", ["stage=prior", "experiment=demo"])
    say("2/4  stage=conditioning: tokens from the image")
    trained = command("train", "conditioning", ["stage=conditioning", "experiment=demo"])
    say("3/4  the pixel twin: the same network and budget, pixel head alone")
    twin = command("train", "twin", ["stage=conditioning", "experiment=demo_pixel"])
    say("4/4  evaluation and panel")
    metrics = command("evaluate", "evaluate", [f"checkpoint={quoted(trained['checkpoint'])}"])
    panel = draw(Path(trained["checkpoint"]))
    figures = {"ceiling": metrics["ceiling"], "miou": metrics["miou"], "pixel_twin_miou": twin["val/miou"]}
    print("demo: " + " ".join(f"{key}={value:.2f}" for key, value in figures.items()) + f" panel={panel}")


def command(name: str, folder: str, overrides: list[str]) -> dict[str, Any]:
    """Runs `python -m gss.<name>` with these overrides in this process; results go to a folder of the demo."""
    run = OUTPUTS / folder
    run.mkdir(parents=True, exist_ok=True)
    (run / "metrics.csv").unlink(missing_ok=True)
    (run / "per_class.csv").unlink(missing_ok=True)
    get_console().print(f"     python -m gss.{name} {' '.join(overrides)}", style="dim", highlight=False)
    register_resolvers()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        paths = [f"paths.outputs={quoted(OUTPUTS)}", f"paths.run={quoted(run)}"]
        config = compose({"train": "config"}.get(name, name), [*overrides, *paths])
    OmegaConf.resolve(config)
    result = {"train": train, "evaluate": evaluate}[name](config)
    (run / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def draw(checkpoint: Path, num_rows: int = 3) -> Path:
    """Draws the panel of scenes spread over the validation split."""
    import torch
    from torch.utils.data import default_collate

    from gss.assembly.checkpoints import TrainedSegmenter
    from gss.cli.configuration import instantiate
    from gss.display import draw_panel
    from gss.stages.conditioning import ConditioningStage

    trained = TrainedSegmenter.load(checkpoint)
    data = instantiate(trained.config["data"]).dataset("val")
    batch = default_collate([data[index * len(data) // num_rows] for index in range(num_rows)])
    stage = ConditioningStage(trained.segmenter, trained.label_space, None, {}, trained.readout(None))
    with torch.inference_mode():
        rows = stage.panel_rows(batch, num_rows)
    panel = OUTPUTS / "panel.png"
    draw_panel(rows, trained.label_space, stage.palette).save(panel)
    return panel


def quoted(value: object) -> str:
    """A value that Hydra's override grammar takes as it stands, spaces and equal signs included."""
    return "'" + str(value).replace("'", "\\'") + "'"


def say(text: str) -> None:
    """One line that tells what is being done."""
    get_console().print(text, style="bold", highlight=False)


if __name__ == "__main__":
    main()
