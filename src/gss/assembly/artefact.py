"""Stage one's artefact: one safetensors file with the palette, the tokenizer and what they were made for.

Format `gss-prior/1`: tensors are the autoencoder's state dict; the header's metadata holds one JSON text under `gss`.
Nothing in the file is executed when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from gss.registry import differences
from gss.tensor_file import read_tensors, write_tensors

FORMAT = "gss-prior/1"
TOKEN_MODEL = "token_model"
OLDER = {  # what a description says that was written before these could be chosen
    "assignment": "class_order",
    "scale": 1,
    "inverse": {"name": "soft_distance"},
    "native_probs": True,
}


@dataclass(frozen=True)
class PriorArtefact:
    """What stage one hands to stage two.

    Args:
        description: plain data: `classes` (names), `palette` and `assignment` (names), `scale`, `tokenizer` and
            `inverse` (their settings), `native_probs`, `data`, `size`, `data_settings` (the data set as configured;
            older artefacts have none), and `token_model` (its settings) where one was trained.
        ceiling: mIoU of labels -> tokens -> labels on validation data, in [0, 1].
        state: the maskige autoencoder's tensors by name, such as `transform.colours` (K, 3) float32 in [0, 1]; those of
            the token model begin with `token_model.`.
        boundary_f3: boundary F-score at 3 pixels of the same labels, in [0, 1]; None in older artefacts.
    """

    description: dict[str, Any]
    ceiling: float
    state: dict[str, Tensor]
    boundary_f3: float | None = None

    def save(self, path: str | Path) -> None:
        """Writes the file, whole or not at all."""
        figures = {"ceiling": self.ceiling, "boundary_f3": self.boundary_f3}
        header = {"format": FORMAT, **figures, "description": self.description}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state.items()}
        write_tensors(path, header, tensors)

    @classmethod
    def load(cls, path: str | Path, key: str = "prior") -> PriorArtefact:
        """Reads a file that `save` wrote.

        Args:
            path: of the file.
            key: of the configuration that named it, for what goes wrong.

        Raises:
            ValueError: if the file is missing, damaged, or not a stage-one artefact.
        """
        source = Path(path)
        if not source.is_file():
            raise ValueError(
                f"no stage-one artefact at {key}={source}: run `python -m gss.train stage=prior` with the same data "
                f"first, or give {key}=PATH"
            )
        try:
            header, state = read_tensors(source)
        except ValueError as error:
            raise ValueError(f"{key}={source} is damaged ({error}): run stage=prior again") from error
        if (found := header.get("format")) != FORMAT:
            raise ValueError(f"{key}={source} is not a stage-one artefact: its format is {found!r}")
        return cls(header["description"], float(header["ceiling"]), state, header.get("boundary_f3"))

    def with_token_model(self, description: Mapping[str, Any], state: Mapping[str, Tensor]) -> PriorArtefact:
        """The artefact with a token model beside its autoencoder.

        Args:
            description: plain data from which the model is made again.
            state: its tensors by name, of any shape.
        """
        tensors = {f"{TOKEN_MODEL}.{name}": tensor for name, tensor in state.items()}
        described = {**self.description, TOKEN_MODEL: dict(description)}
        return replace(self, description=described, state={**self.state, **tensors})

    def without_token_model(self) -> PriorArtefact:
        """What stage two takes: the autoencoder alone."""
        description = {key: value for key, value in self.description.items() if key != TOKEN_MODEL}
        state = {name: tensor for name, tensor in self.state.items() if not name.startswith(f"{TOKEN_MODEL}.")}
        return replace(self, description=description, state=state)

    def token_model_state(self) -> dict[str, Tensor]:
        """The token model's tensors by their own names; empty where there is none."""
        prefix = f"{TOKEN_MODEL}."
        return {name.removeprefix(prefix): held for name, held in self.state.items() if name.startswith(prefix)}

    def check_matches(self, expected: Mapping[str, Any]) -> None:
        """Refuses to be used where something else is configured.

        Args:
            expected: the description that the present configuration would give; compared are its classes, palette,
                assignment, scale and inverse, and the tokenizer's name, stride and vocabulary.

        Raises:
            ValueError: naming every difference with both values.
        """
        if differing := differences(_identity(self.description), _identity(expected), "in the artefact"):
            raise ValueError(
                f"the stage-one artefact does not fit: {differing}; "
                "set these keys as the artefact has them, or run stage=prior again"
            )


def _identity(description: Mapping[str, Any]) -> dict[str, Any]:
    tokenizer, chosen = description["tokenizer"], {**OLDER, **description}
    return {
        "data.label_space.names": list(description["classes"]),
        "maskige.palette": description["palette"],
        **{f"maskige.{key}": chosen[key] for key in OLDER},
        "tokenizer.name": tokenizer["name"],
        "tokenizer.stride": tokenizer["stride"],
        "tokenizer.vocab_size": tokenizer["vocab_size"],
    }
