"""What a checkpoint of stage=conditioning holds, read for evaluation and prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gss.assembly import restore_segmenter
from gss.callbacks.checkpoint_io import AtomicCheckpointIO
from gss.inference import Inference, build_inference
from gss.labels import LabelSpace
from gss.pipeline import GenerativeSegmenter


@dataclass(frozen=True)
class TrainedSegmenter:
    """A trained segmenter and what it was trained for.

    Args:
        segmenter: in evaluation mode, on the CPU.
        label_space: the classes.
        config: the resolved configuration of the training run, as plain data.
        ceiling: of its tokenizer on the validation data, in [0, 1]; None for the pixel twin.
        prior: the description of its stage-one artefact; None for the pixel twin.
    """

    segmenter: GenerativeSegmenter
    label_space: LabelSpace
    config: dict[str, Any]
    ceiling: float | None
    prior: dict[str, Any] | None

    @classmethod
    def load(cls, path: str | Path) -> TrainedSegmenter:
        """Reads a checkpoint without executing anything in it.

        Raises:
            ValueError: if the file is missing, damaged, or not of stage=conditioning.
        """
        checkpoint = read_checkpoint(path)
        segmenter = restore_segmenter(checkpoint)
        record = checkpoint["gss"]
        return cls(
            segmenter,
            LabelSpace.from_dict(record["label_space"]),
            record["config"],
            record["ceiling"],
            record["prior"],
        )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels that the network was trained at."""
        height, width = self.config["data"]["size"]
        return height, width

    def readout(self, wanted: str | None) -> str:
        """The readout to use: the wanted one, else the trained one.

        Raises:
            ValueError: if the segmenter does not have it.
        """
        trained = self.config["stage"]["readout"] if self.prior is not None else "pixel"
        self.segmenter.check_readout(wanted or trained)
        return wanted or trained

    def inference(self, wanted: Mapping[str, Any] | None = None) -> Inference:
        """How photographs are shown: as in training, but for the settings that are wanted and not None.

        Checkpoints from before there was a choice saw whole photographs at the trained scale.

        Raises:
            ValueError: for a setting that there is not, or out of range.
        """
        given = {key: value for key, value in (wanted or {}).items() if value is not None}
        settings = {**self.config.get("inference", {}), **given}
        return build_inference(settings, self.size, self.segmenter.network.stride)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint file holds; nothing in it is executed.

    Raises:
        ValueError: if the file is missing or damaged.
    """
    if not Path(path).is_file():
        raise ValueError(f"no checkpoint={path}: give the last.ckpt or best.ckpt of a stage=conditioning run")
    return AtomicCheckpointIO().load_checkpoint(path)
