"""Another inverse in a trained segmenter, whose network goes on as it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gss.assembly.artefact import OLDER, PriorArtefact
from gss.maskige.learned_inverse import build_inverse
from gss.pipeline import MaskigeAutoencoder

INVERSE = "segmenter.autoencoder.inverse."  # of the inverse's tensors in a checkpoint
STATES = ("state_dict", "current_model_state")  # the second beside averaged weights only
READING = ("inverse", "native_probs", "temperature")  # what a description says of how colours are read


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
    states = {key: _without_inverse(checkpoint[key]) | newer for key in STATES if key in checkpoint}
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
    return {"reading": _reading(description), "state": dict(inverse_state)}


def as_conditioned(autoencoder: MaskigeAutoencoder, checkpoint: Mapping[str, Any]) -> MaskigeAutoencoder:
    """The autoencoder with the inverse that the checkpoint's network was trained with."""
    if "conditioned_on" not in checkpoint:
        return autoencoder
    reading, state = checkpoint["conditioned_on"]["reading"], checkpoint["conditioned_on"]["state"]
    exchanged = with_inverse(autoencoder, reading)
    exchanged.inverse.load_state_dict(state)
    return exchanged.eval()


def with_inverse(autoencoder: MaskigeAutoencoder, reading: Mapping[str, Any]) -> MaskigeAutoencoder:
    """The same transform and tokenizer, not copied, with a new inverse.

    Args:
        autoencoder: any.
        reading: its `inverse` (settings), `temperature` and `native_probs`.
    """
    num_classes = len(autoencoder.transform.colours)
    inverse = build_inverse(**reading["inverse"], num_classes=num_classes, temperature=reading["temperature"])
    transform, tokenizer = autoencoder.transform, autoencoder.tokenizer
    return MaskigeAutoencoder(transform, tokenizer, inverse, autoencoder.scale, reading["native_probs"])


def _without_inverse(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(INVERSE)}


def _reading(description: Mapping[str, Any]) -> dict[str, Any]:
    whole = {**OLDER, **description}
    return {key: whole[key] for key in READING}
