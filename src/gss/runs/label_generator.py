"""p(c): label maps sampled from stage one alone. Tokens come from the token model p(z), and the decoder paints them.

The paper calls this unconditional generation; here it also completes a map of which a part is missing.

Grids of whole label maps have one code more than the tokenizer: V stands for a cell without any label. A tokenizer has
no token for such a cell and encodes it as whatever is nearest, which the conditioning network never learns. A
distribution over grids has to know it, or the bonnet at the bottom of a street scene is generated as a car.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gss.assembly.artefact import TOKEN_MODEL, PriorArtefact
from gss.assembly.build import fill, load_autoencoder
from gss.labels import IGNORE, LabelSpace, check_same_classes
from gss.objectives.targets import token_valid
from gss.pipeline import MaskigeAutoencoder
from gss.token_model import build_token_model
from gss.token_model.masked import MaskedTokenTransformer
from gss.token_model.sampling import fill_in

AT_A_TIME = 8  # grids: bounds the memory of V scores per cell


@dataclass(frozen=True)
class SamplingSettings:
    """How token grids are sampled: `steps`, `temperature` and `randomness` of `fill_in`."""

    steps: int = 24
    temperature: float = 1.0
    randomness: float = 20.0


@dataclass(frozen=True)
class LabelGenerator:
    """Stage one with a token model, on one device and in evaluation mode.

    Args:
        autoencoder: labels to tokens and back.
        model: the distribution over token grids.
        size: (H, W) of a label map, in pixels.
        classes: their names.
        data: configuration of the data set that both were trained on, as plain data.
    """

    autoencoder: MaskigeAutoencoder
    model: MaskedTokenTransformer
    size: tuple[int, int]
    classes: tuple[str, ...]
    data: dict[str, Any]

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> LabelGenerator:
        """Reads a stage-one artefact.

        Raises:
            ValueError: if it is missing or damaged, or has no token model.
        """
        artefact = PriorArtefact.load(path)
        if TOKEN_MODEL not in artefact.description:
            raise ValueError(
                f"prior={path} has no token model to sample from: run `python -m gss.train stage=prior "
                "token_model=masked` with the same data"
            )
        model = build_token_model(**artefact.description[TOKEN_MODEL])
        fill(model, artefact.token_model_state(), "token model")
        height, width = artefact.description["size"]
        classes, data = tuple(artefact.description["classes"]), artefact.description["data_settings"]
        autoencoder = load_autoencoder(artefact).to(device)
        return cls(autoencoder, model.to(device).eval(), (height, width), classes, data)

    def check_matches(self, label_space: LabelSpace, size: Sequence[int]) -> None:
        """Refuses a data set of other classes or another (H, W) than the artefact's.

        Raises:
            ValueError: naming both values.
        """
        check_same_classes("the artefact", self.classes, "the data set", label_space.names)
        if tuple(size) != self.size:
            raise ValueError(
                f"the token model knows label maps of {self.size[0]}x{self.size[1]} pixels, but data.size is "
                f"{list(size)}: set data.size={list(self.size)}, or run stage=prior at that size"
            )

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.model.bias.device

    def random_numbers(self, seed: int) -> torch.Generator:
        """The random numbers of a sampling, on the networks' device."""
        return torch.Generator(self.device).manual_seed(seed)

    def sample(self, num: int, generator: torch.Generator, settings: SamplingSettings) -> Tensor:
        """Tokens (num, h, w) int64 in [0, V] of new label maps."""
        masked = torch.full((num, *self.model.grid), self.model.mask_token, device=self.device)
        return self.fill_in(masked, generator, settings)

    def fill_in(self, tokens: Tensor, generator: torch.Generator, settings: SamplingSettings) -> Tensor:
        """Samples the tokens that are the model's `mask_token` in (B, h, w) int64; the others stay."""
        parts = [
            fill_in(self.model, part, generator, settings.steps, settings.temperature, settings.randomness)
            for part in tokens.split(AT_A_TIME)
        ]
        return torch.cat(parts)

    def tokens(self, labels: Tensor) -> Tensor:
        """Tokens (B, h, w) int64 in [0, V] of labels (B, H, W) int64 in [0, K) or 255; V is a cell without labels."""
        return torch.cat([encode_map(self.autoencoder, part) for part in labels.to(self.device).split(AT_A_TIME)])

    def labels(self, tokens: Tensor) -> Tensor:
        """Labels (B, H, W) int64 in [0, K) or 255, on the CPU, of tokens (B, h, w) int64 in [0, V]."""
        parts = [decode_map(self.autoencoder, part, self.size).cpu() for part in tokens.split(AT_A_TIME)]
        return torch.cat(parts)

    def erased(self, region: Sequence[float]) -> Tensor:
        """The cells that a region touches: (h, w) bool.

        Args:
            region: top, left, bottom, right, each a share in [0, 1] of the height or width.

        Raises:
            ValueError: if it is not a region.
        """
        given = list(region)
        if len(given) != 4 or not (0 <= given[0] < given[2] <= 1 and 0 <= given[1] < given[3] <= 1):
            raise ValueError(
                f"region={given} is not [top,left,bottom,right] with shares of height and width from 0 to 1, "
                "such as region=[0.25,0.25,0.75,0.75]"
            )
        top, left, bottom, right = given
        height, width = self.model.grid
        cells = torch.zeros(height, width, dtype=torch.bool, device=self.device)
        cells[int(top * height) : math.ceil(bottom * height), int(left * width) : math.ceil(right * width)] = True
        return cells

    def complete(
        self, labels: Tensor, erased: Tensor, generator: torch.Generator, settings: SamplingSettings
    ) -> Tensor:
        """Samples what label maps could hold where they were erased.

        Erased pixels are ignored ones to the tokenizer too, so nothing of them is seen.

        Args:
            labels: (B, H, W) int64 in [0, K) or 255.
            erased: (h, w) bool, from `erased`.
            generator: of all random numbers.
            settings: how.

        Returns:
            Labels (B, H, W) int64: as given outside the erased cells, in [0, K) or 255 inside.
        """
        hidden = self.pixels(erased)
        tokens = self.tokens(labels.masked_fill(hidden, IGNORE)).masked_fill(erased, self.model.mask_token)
        return torch.where(hidden, self.labels(self.fill_in(tokens, generator, settings)), labels)

    def pixels(self, cells: Tensor) -> Tensor:
        """The pixels (H, W) bool, on the CPU, of cells (h, w) bool."""
        return cell_pixels(cells.cpu(), self.autoencoder.stride, self.size)


@torch.no_grad()
def encode_map(autoencoder: MaskigeAutoencoder, labels: Tensor) -> Tensor:
    """Tokens (B, h, w) int64 in [0, V] of labels (B, H, W) int64 in [0, K) or 255."""
    unlabelled = autoencoder.tokenizer.vocab_size
    return autoencoder.encode(labels).masked_fill(~token_valid(labels, autoencoder.stride), unlabelled)


@torch.no_grad()
def decode_map(autoencoder: MaskigeAutoencoder, tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels (B, H, W) int64 in [0, K) or 255, cut to (H, W) `size`, of tokens (B, h, w) int64 in [0, V]."""
    unlabelled = tokens == autoencoder.tokenizer.vocab_size
    nothing = torch.full((1, *size), IGNORE, device=tokens.device)
    labels = autoencoder.decode(torch.where(unlabelled, autoencoder.encode(nothing), tokens), size).labels()
    return labels.masked_fill(cell_pixels(unlabelled, autoencoder.stride, size), IGNORE)


def cell_pixels(cells: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """The pixels of cells (..., h, w) bool with `stride` pixels to a side: (..., H, W) bool, cut to (H, W) `size`."""
    pixels = cells.repeat_interleave(stride, -2).repeat_interleave(stride, -1)
    return pixels[..., : size[0], : size[1]]
