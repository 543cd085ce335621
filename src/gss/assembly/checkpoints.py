"""Checkpoints: the files, and what those of finished runs hold.

A file is whole or absent, proved by its sha256 (`<name>.sha256`, in the format of `sha256sum -c`, lies beside it), and
read without running code. It holds a trained segmenter, a finished stage one, or one with the inverse of another.
"""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gss.assembly.artefact import OLDER, PriorArtefact
from gss.assembly.build import build_segmenter, fill, load_autoencoder, with_inverse
from gss.atomic_files import written_together
from gss.inference import Inference, build_inference
from gss.labels import LabelSpace
from gss.networks.token_scores import Vocabulary
from gss.pipeline import GenerativeSegmenter, MaskigeAutoencoder

INVERSE = "segmenter.autoencoder.inverse."  # of the inverse's tensors in a checkpoint
STATES = ("state_dict", "current_model_state")  # the second beside averaged weights only
READING = ("inverse", "native_probs", "temperature")  # what a description says of how colours are read


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
        segmenter, record = restore_segmenter(checkpoint), checkpoint["gss"]
        label_space = LabelSpace.from_dict(record["label_space"])
        return cls(segmenter, label_space, record["config"], record["ceiling"], record["prior"])

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
        if prior is not None:
            artefact = PriorArtefact.load(prior)
            classes, data = artefact.description["classes"], artefact.description.get("data_settings")
            return cls(load_autoencoder(artefact), tuple(classes), data, f"prior={prior}")
        trained = TrainedSegmenter.load(str(checkpoint))
        autoencoder = trained.segmenter.autoencoder
        if autoencoder is None:
            raise ValueError(f"checkpoint={checkpoint} is of a pixel twin, which has no tokenizer: give prior=PATH")
        return cls(autoencoder, trained.label_space.names, trained.config["data"], f"checkpoint={checkpoint}")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint file holds; nothing in it is executed.

    Raises:
        ValueError: if the file is missing or damaged.
    """
    if not Path(path).is_file():
        raise ValueError(f"no checkpoint={path}: give the last.ckpt or best.ckpt of a stage=conditioning run")
    return load_checkpoint(path)


def restore_segmenter(checkpoint: Mapping[str, Any]) -> GenerativeSegmenter:
    """The network of a `stage=conditioning` checkpoint, with its weights, in evaluation mode.

    Args:
        checkpoint: what the stage saved: `gss` holds plain data, `state_dict` the tensors.

    Raises:
        ValueError: if the checkpoint is of another stage or another program, or its weights are not all there.
    """
    record = checkpoint.get("gss")
    if not record or record["stage"] != "conditioning":
        found = f"stage={record['stage']}" if record else "another program"
        raise ValueError(f"the checkpoint is of {found}: give checkpoint=PATH of a stage=conditioning run")
    state = {name.removeprefix("segmenter."): tensor for name, tensor in checkpoint["state_dict"].items()}
    autoencoder = conditioned = None
    if record["prior"] is not None:
        inner = "autoencoder."
        held = {name.removeprefix(inner): tensor for name, tensor in state.items() if name.startswith(inner)}
        autoencoder = load_autoencoder(PriorArtefact(record["prior"], record["ceiling"], held))
        conditioned = autoencoder  # with the inverse that the network was trained with
        if "conditioned_on" in checkpoint:
            conditioned = with_inverse(autoencoder, checkpoint["conditioned_on"]["reading"])
            conditioned.inverse.load_state_dict(checkpoint["conditioned_on"]["state"])
            conditioned.eval()
    config = {**record["config"], "backbone": {**record["config"]["backbone"], "pretrained": False, "weights": None}}
    vocabulary = Vocabulary.held_in(state, "network.token_head.vocabulary.")
    num_classes = len(record["label_space"]["names"])
    network = build_segmenter(config, num_classes, conditioned, vocabulary=vocabulary).network
    segmenter = GenerativeSegmenter(network, autoencoder)
    fill(segmenter, state, "checkpoint")
    return segmenter.eval()


def exchange_inverse(
    checkpoint: Mapping[str, Any], artefact: PriorArtefact, config: Mapping[str, Any]
) -> dict[str, Any]:
    """A conditioning checkpoint that reads its maskiges by the inverse of an artefact.

    A token head that is tied to what tokens decode to was built with the inverse of its training, so that one stays in
    the checkpoint, under `conditioned_on`.

    Args:
        checkpoint: of stage=conditioning, with the tokenizer and the colours of the artefact.
        artefact: with the new inverse, and the ceiling that it allows.
        config: the configuration that says how it is read, with the group maskige.

    Returns:
        A checkpoint of the same form; the given one is not changed.
    """
    record, tensors = checkpoint["gss"], checkpoint["state_dict"]
    older = {name.removeprefix(INVERSE): tensor for name, tensor in tensors.items() if name.startswith(INVERSE)}
    newer = {f"segmenter.autoencoder.{name}": tensor for name, tensor in artefact.state.items()}
    states = {
        key: {name: tensor for name, tensor in checkpoint[key].items() if not name.startswith(INVERSE)} | newer
        for key in STATES
        if key in checkpoint
    }
    maskige = {**record["config"]["maskige"], **{key: config["maskige"][key] for key in READING}}
    return {
        **checkpoint,
        **states,
        "conditioned_on": checkpoint.get("conditioned_on", conditioned_on(record["prior"], older)),
        "gss": {
            **record,
            "prior": artefact.description,
            "ceiling": artefact.ceiling,
            "config": {**record["config"], "maskige": maskige},
        },
    }


def conditioned_on(description: Mapping[str, Any], inverse_state: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint whose inverse has moved on keeps of the one that its network was built with.

    Args:
        description: of stage one, which says how colours are read.
        inverse_state: the tensors of that inverse by name.
    """
    whole = {**OLDER, **description}
    return {"reading": {key: whole[key] for key in READING}, "state": dict(inverse_state)}


def save_checkpoint(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Writes a checkpoint and its sha256.

    Args:
        checkpoint: tensors and plain containers.
        path: the file to write or replace; missing folders are made.

    Raises:
        OSError: the disk is full or the like; the older file and its sha256 are untouched.
    """
    target = Path(path)
    with written_together(target, _sidecar(target)) as (new, new_sidecar):
        with new.open("wb") as file:  # a path would be noted inside the file
            torch.save(checkpoint, file)
        new_sidecar.write_text(f"{_digest(new)}  {target.name}\n")


def load_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Reads a checkpoint: its sha256 is compared where there is one, and nothing in it can run code.

    Args:
        path: the file, or a link to it.
        map_location: where tensors go, as in torch.load.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the sha256 differs, the file is damaged, or it holds more than tensors and containers.
    """
    target = Path(path).resolve()  # `last.ckpt` may be a link: the sha256 lies beside what it points to
    if not target.is_file():
        raise FileNotFoundError(f"there is no checkpoint '{path}'; mend the key that names it (checkpoint=PATH)")
    if (sidecar := _sidecar(target)).is_file():
        expected, found = (sidecar.read_text().split() or ["nothing"])[0], _digest(target)
        if expected != found:
            raise ValueError(
                f"'{target}' is damaged: its sha256 is {found[:12]}... and '{sidecar.name}' says "
                f"{expected[:12]}...; choose another checkpoint of the run (checkpoint=PATH)"
            )
    if not zipfile.is_zipfile(target):
        raise ValueError(f"'{path}' is no checkpoint, or it was cut off; choose another one (checkpoint=PATH)")
    try:
        checkpoint: dict[str, Any] = torch.load(target, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"'{path}' was refused: it holds more than tensors and plain containers, and loading that "
            "can run foreign code; choose a checkpoint that gss.train wrote (checkpoint=PATH)"
        ) from error
    return checkpoint


def remove_checkpoint(path: str | Path) -> None:
    """Removes a checkpoint and its sha256; nothing happens if there is none."""
    target = Path(path)
    target.unlink(missing_ok=True)
    _sidecar(target).unlink(missing_ok=True)


def _sidecar(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
