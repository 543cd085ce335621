"""What a checkpoint of stage=conditioning holds, read for evaluation and prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gss.assembly.artefact import PriorArtefact
from gss.assembly.build import load_autoencoder, restore_segmenter
from gss.assembly.checkpoint_io import AtomicCheckpointIO
from gss.inference import Inference, build_inference
from gss.labels import LabelSpace
from gss.maskige.palette import Palette
from gss.pipeline import GenerativeSegmenter, MaskigeAutoencoder
from gss.tokenizer.base import Tokenizer


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
        """How images are shown: as in training, but for the settings that are wanted and not None.

        Checkpoints from before there was a choice saw whole images at the trained scale.

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


# FOLDED A finished stage one, read from its artefact or from a checkpoint of stage two that carries it.


@dataclass(frozen=True)
class StageOne:
    """A maskige autoencoder and what it was made for.

    Args:
        autoencoder: in evaluation mode, on the CPU.
        classes: names, in the order of the train ids.
        data: settings of the data set that it was made for, as plain data; None in older artefacts.
        source: the word of the command line that named the file.
    """

    autoencoder: MaskigeAutoencoder
    classes: tuple[str, ...]
    data: dict[str, Any] | None
    source: str

    @classmethod
    def load(cls, prior: str | None, checkpoint: str | None) -> StageOne:
        """Reads the artefact that `prior` names, or else the one inside a checkpoint.

        Raises:
            ValueError: if the file is missing or damaged, or the checkpoint is of a pixel twin.
        """
        return cls._from_checkpoint(str(checkpoint)) if prior is None else cls._from_artefact(prior)

    @classmethod
    def _from_artefact(cls, path: str) -> StageOne:
        artefact = PriorArtefact.load(path)
        classes, data = artefact.description["classes"], artefact.description.get("data_settings")
        return cls(load_autoencoder(artefact).eval(), tuple(classes), data, f"prior={path}")

    @classmethod
    def _from_checkpoint(cls, path: str) -> StageOne:
        trained = TrainedSegmenter.load(path)
        autoencoder = trained.segmenter.autoencoder
        if autoencoder is None:
            raise ValueError(f"checkpoint={path} is of a pixel twin, which has no tokenizer: give prior=PATH")
        return cls(autoencoder, trained.label_space.names, trained.config["data"], f"checkpoint={path}")


# FOLDED A tokenizer taken from another run's artefact as it is, so that a sweep over maskiges need not train it again.

KEY = "stage.tokenizer_from"
SOURCES = ("weights", "sha256")  # settings that say where weights come from; here they come from the artefact


def take_tokenizer(path: str, description: Mapping[str, Any], palette: Palette) -> Tokenizer:
    """The fitted or trained tokenizer of an artefact.

    Args:
        path: of the artefact.
        description: what this run's own artefact will say.
        palette: this run's colours.

    Raises:
        ValueError: if the artefact cannot be read, its tokenizer has other settings, naming both values, or it knows
            the classes of other colours.
    """
    artefact = PriorArtefact.load(path, KEY)
    _check_settings(artefact.description["tokenizer"], description["tokenizer"], path)
    autoencoder = load_autoencoder(artefact)
    if autoencoder.tokenizer.knows_classes and not autoencoder.transform.colours.equal(palette.colours):
        raise ValueError(
            f"{KEY}={path} knows the colours of maskige.palette={artefact.description['palette']} there, which are "
            f"not those of maskige.palette={description['palette']} here: leave {KEY} out, so that "
            f"tokenizer={description['tokenizer']['name']} is fitted to these"
        )
    return autoencoder.tokenizer


def _check_settings(found: Mapping[str, Any], wanted: Mapping[str, Any], path: str) -> None:
    differences = [
        f"tokenizer.{key} is {found[key]!r} there but {wanted.get(key)!r} in the configuration"
        for key in found
        if key not in SOURCES and found[key] != wanted.get(key)
    ]
    if differences:
        raise ValueError(f"{KEY}={path} does not fit: {'; '.join(differences)}; set these keys as they are there")
