"""A tokenizer taken from another run's artefact as it is, so that a sweep over maskiges need not train it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gss.artefact import PriorArtefact
from gss.assembly import load_autoencoder
from gss.maskige.palette import Palette
from gss.tokenizer.protocol import Tokenizer

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
