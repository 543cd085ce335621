"""A finished stage one, read from its artefact or from a checkpoint of stage two that carries it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gss.artefact import PriorArtefact
from gss.assembly import load_autoencoder
from gss.checkpoints import TrainedSegmenter
from gss.pipeline import MaskigeAutoencoder


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
