"""What the tokenizers around a network of diffusers share: colours, published weights, and being left as they are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from gss.tokenizer.counting import count_tokens
from gss.tokenizer.diffusers_network import PublishedNetwork, build_network, check_same, plain_config, read_network
from gss.tokenizer.latent import LatentTokenizer


class DiffusersTokenizer(LatentTokenizer):
    """A network of diffusers with colours in [-1, 1] around a quantizer.

    It is trained from nothing on maskiges, or begins from published weights. With `frozen` those stay as they are and
    only the use of the tokens is counted. The weights' folder is read by `stage=prior` alone: its artefact holds them.

    Args:
        kind: class of diffusers.
        stride: pixels per token.
        network: that class's own arguments.
        weights: folder in diffusers' format; None: random weights.
        frozen: keep the published weights.
        usage_pictures: how many training maskiges are encoded to count the use of a frozen tokenizer's tokens.
        ours: arguments of the class that follow from other settings.

    Raises:
        ValueError: if diffusers is not installed, or the settings contradict each other.
    """

    kind: str
    config_keys: ClassVar[Mapping[str, str]]  # of arguments that are not under tokenizer.network

    def __init__(
        self,
        stride: int,
        network: Mapping[str, Any],
        weights: str | None,
        frozen: bool,
        usage_pictures: int,
        **ours: Any,
    ) -> None:
        super().__init__()
        if frozen and weights is None:
            raise ValueError("tokenizer.frozen=true keeps published weights: give tokenizer.weights=FOLDER as well")
        if usage_pictures < 1:
            raise ValueError(f"tokenizer.usage_pictures={usage_pictures} must be at least 1")
        self.stride, self.weights, self.usage_pictures = stride, weights, usage_pictures
        self.trainable, self.fitted = not frozen, frozen
        self.network: Any = build_network(self.kind, stride, network, **ours)

    @abstractmethod
    def fill(self, published: PublishedNetwork) -> None:
        """Takes over published weights of the same layout."""

    def load_weights(self) -> None:
        """Reads the folder that the setting `weights` names, where it names one.

        Raises:
            ValueError: if it is missing, damaged, or of another layout.
        """
        if self.weights is not None:
            published = read_network(self.kind, self.weights)
            check_same(published.config, plain_config(self.network), self.config_keys)
            self.fill(published)

    def fit(
        self,
        maskiges: Iterable[Tensor],
        colours: Tensor,
        ignore_colour: Tensor,
        on_iteration: Callable[[int], None] = lambda iteration: None,
    ) -> None:
        """Of a frozen tokenizer: reads the weights, then counts the tokens of the first training maskiges.

        Args:
            maskiges: pictures (B, 3, H, W) float32 in [0, 1].
            colours: not used: the network knows no palette.
            ignore_colour: (3,) float32 in [0, 1].
            on_iteration: called with the number of pictures counted.

        Raises:
            ValueError: if the weights are missing, damaged, or of another layout.
        """
        self.load_weights()
        ignored = ignore_colour.to(self.codebook)
        self.quantizer.usage.copy_(count_tokens(self, maskiges, ignored, self.usage_pictures, on_iteration))

    def decode_latent(self, latent: Tensor) -> Tensor:
        """Codes (B, D, h, w) float to a maskige (B, 3, H, W) float32 in [0, 1]."""
        picture = (self._decode(latent).float() + 1) / 2
        # straight through: a colour beyond the range must still feel which way it should go
        return torch.as_tensor(picture + (picture.clamp(0, 1) - picture).detach())

    @abstractmethod
    def _decode(self, latent: Tensor) -> Tensor:
        """Codes (B, D, h, w) float to a picture (B, 3, H, W) about [-1, 1]."""
