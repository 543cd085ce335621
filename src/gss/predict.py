"""`python -m gss.predict checkpoint=PATH input=FOLDER`: labels, maskige and overlay of every image.

`python -m gss.predict checkpoint=PATH data=cityscapes split=test submission=cityscapes`: the zip for that server.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gss.cli.command_line import run
from gss.cli.configuration import instantiate, to_plain, visited_data


def predict(config: DictConfig) -> dict[str, Any]:
    """Segments an image or a folder of them, or a split of a data set for a benchmark's server.

    Args:
        config: `conf/predict.yaml`, composed and resolved.

    Returns:
        `output` (the folder that holds `labels/`, `maskige/` and `overlay/`, or the zip of a submission) and
        `num_images`.

    Raises:
        ValueError: if the words of the command line do not go together, or what they name does not.
    """
    if (config.input is None) == (config.submission is None):
        raise ValueError(
            "give either input=FOLDER, whose images are segmented, or submission=NAME with data=NAME and split=test, "
            f"got input={config.input} and submission={config.submission}"
        )
    return _images(config) if config.submission is None else _submission(config)


def _images(config: DictConfig) -> dict[str, Any]:
    from gss.assembly.checkpoints import TrainedSegmenter
    from gss.runs.prediction import find_images, predict_images

    trained = TrainedSegmenter.load(config.checkpoint)
    inference = trained.inference(to_plain(config)["inference"])
    images = find_images(Path(config.input))
    output = Path(config.output)
    predict_images(trained, images, output, config.readout, config.device, config.opacity, inference)
    print(f"predicted {len(images)} images: {output}")
    return {"output": str(output), "num_images": len(images)}


def _submission(config: DictConfig) -> dict[str, Any]:
    from gss.assembly.checkpoints import TrainedSegmenter
    from gss.runs.prediction import predict_submission
    from gss.runs.submission import FORMATS

    trained = TrainedSegmenter.load(config.checkpoint)
    plain = to_plain(config)
    inference = trained.inference(plain["inference"])
    datamodule = instantiate(visited_data(plain.get("data"), trained.config["data"]))
    images = [pair.image for pair in datamodule.pairs(config.split)]
    target = Path(config.output) / f"{config.submission}_{config.split}.zip"
    predict_submission(trained, images, config.submission, target, config.readout, config.device, inference)
    print(f"submission: {len(images)} label files, {target.stat().st_size / 1e6:.1f} MB: {target}")
    expected = FORMATS[config.submission].num_test
    if len(images) != expected:
        print(f"note: the server expects the {expected} images of its test split, and exactly those")
    return {"output": str(target), "num_images": len(images)}


def main() -> None:
    """Console script `gss-predict`."""
    run(predict, "predict", "predict")


if __name__ == "__main__":
    main()
