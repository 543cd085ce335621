"""`python -m gss.predict checkpoint=PATH input=FOLDER`: labels, maskige and overlay of every photograph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gss.command_line import run


def predict(config: DictConfig) -> dict[str, Any]:
    """Segments a photograph or a folder of them.

    Args:
        config: `conf/predict.yaml`, composed and resolved.

    Returns:
        `output` (the folder that holds `labels/`, `maskige/` and `overlay/`) and `num_photographs`.
    """
    from gss.checkpoints import TrainedSegmenter
    from gss.prediction import find_photographs, predict_photographs

    trained = TrainedSegmenter.load(config.checkpoint)
    photographs = find_photographs(Path(config.input))
    output = Path(config.output)
    predict_photographs(trained, photographs, output, config.readout, config.device, config.opacity)
    print(f"predicted {len(photographs)} photographs: {output}")
    return {"output": str(output), "num_photographs": len(photographs)}


def main() -> None:
    """Console script `gss-predict`."""
    run(predict, "predict", "predict")


if __name__ == "__main__":
    main()
