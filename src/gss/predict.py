"""`python -m gss.predict checkpoint=PATH input=FOLDER`: labels, maskige and overlay of every photograph.

`python -m gss.predict checkpoint=PATH data=cityscapes split=test submission=cityscapes`: the zip for that server.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gss.cli.command_line import run
from gss.cli.configuration import instantiate, to_plain, visited_data


def predict(config: DictConfig) -> dict[str, Any]:
    """Segments a photograph or a folder of them, or a split of a data set for a benchmark's server.

    Args:
        config: `conf/predict.yaml`, composed and resolved.

    Returns:
        `output` (the folder that holds `labels/`, `maskige/` and `overlay/`, or the zip of a submission) and
        `num_photographs`.

    Raises:
        ValueError: if the words of the command line do not go together, or what they name does not.
    """
    if (config.input is None) == (config.submission is None):
        raise ValueError(
            "give either input=FOLDER, whose photographs are drawn, or submission=NAME with data=NAME and split=test, "
            f"got input={config.input} and submission={config.submission}"
        )
    return _photographs(config) if config.submission is None else _submission(config)


def _photographs(config: DictConfig) -> dict[str, Any]:
    from gss.assembly.checkpoints import TrainedSegmenter
    from gss.runs.prediction import find_photographs, predict_photographs

    trained = TrainedSegmenter.load(config.checkpoint)
    inference = trained.inference(to_plain(config)["inference"])
    photographs = find_photographs(Path(config.input))
    output = Path(config.output)
    predict_photographs(trained, photographs, output, config.readout, config.device, config.opacity, inference)
    print(f"predicted {len(photographs)} photographs: {output}")
    return {"output": str(output), "num_photographs": len(photographs)}


def _submission(config: DictConfig) -> dict[str, Any]:
    from gss.assembly.checkpoints import TrainedSegmenter
    from gss.runs.prediction import predict_submission
    from gss.runs.submission import FORMATS

    trained = TrainedSegmenter.load(config.checkpoint)
    plain = to_plain(config)
    inference = trained.inference(plain["inference"])
    datamodule = instantiate(visited_data(plain.get("data"), trained.config["data"]))
    photographs = [pair.image for pair in datamodule.pairs(config.split)]
    target = Path(config.output) / f"{config.submission}_{config.split}.zip"
    predict_submission(trained, photographs, config.submission, target, config.readout, config.device, inference)
    print(f"submission: {len(photographs)} label files, {target.stat().st_size / 1e6:.1f} MB: {target}")
    expected = FORMATS[config.submission].num_test
    if len(photographs) != expected:
        print(f"note: the server expects the {expected} photographs of its test split, and exactly those")
    return {"output": str(target), "num_photographs": len(photographs)}


def main() -> None:
    """Console script `gss-predict`."""
    run(predict, "predict", "predict")


if __name__ == "__main__":
    main()
