"""The autoencoder of latent diffusion (Rombach et al., 2022, arXiv:2112.10752), diffusers' `AutoencoderKL`, rounded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from gss.tokenizer.diffusers_network import PublishedNetwork
from gss.tokenizer.diffusers_tokenizer import DiffusersTokenizer
from gss.tokenizer.fixed_codes import FiniteScalarCodes
from gss.tokenizer.levels import fsq_levels

REACH = 3.0  # standard deviations on either side that the levels cover


class KLAutoencoder(DiffusersTokenizer):
    """Its latent is continuous: a token is the posterior's mean, each channel rounded to one of a few even levels.

    The levels cover three standard deviations of the latent on either side of its centre, as the network's own
    `scaling_factor` and `shift_factor` give them; what lies beyond is bounded. Training rounds the mean as well, with
    straight-through gradients, so the decoder learns what rounding leaves; a draw from the posterior would be noise
    beside it, and was worse (a run each of 300 steps on drawn scenes: ceiling 0.234 or 0.242, against 0.256).
    The divergence KL(q(latent | maskige) || N(0, 1)) has a small weight. No discriminator, no perceptual loss.

    Args:
        network: arguments of `AutoencoderKL`, such as `block_out_channels`.
        stride: pixels per token; must be that of `network`.
        vocab_size: V.
        levels: per latent channel, with the product V; None: chosen from V.
        kl_weight: of the divergence per number of the latent, in nats.
        decay: of the counted usage.
        weights: folder with published weights in diffusers' format; None: trained from nothing.
        frozen: keep the published weights as they are.
        usage_pictures: how many training maskiges are encoded to count the use of a frozen tokenizer's tokens.

    Raises:
        ValueError: if diffusers is not installed, V is no product of levels, or the settings contradict each other.
    """

    kind = "AutoencoderKL"
    config_keys: ClassVar[Mapping[str, str]] = {"latent_channels": "the length of tokenizer.levels"}

    def __init__(
        self,
        network: Mapping[str, Any],
        stride: int = 8,
        vocab_size: int = 1024,
        levels: Sequence[int] | None = None,
        kl_weight: float = 1e-3,
        decay: float = 0.95,
        weights: str | None = None,
        frozen: bool = False,
        usage_pictures: int = 64,
    ) -> None:
        grid = fsq_levels(vocab_size, levels)
        super().__init__(stride, network, weights, frozen, usage_pictures, latent_channels=len(grid))
        self.vocab_size, self.kl_weight = vocab_size, kl_weight
        self.quantizer = FiniteScalarCodes(grid, decay, even=True)
        self.spread: float = REACH / self.network.config.scaling_factor
        self.centre: float = self.network.config.shift_factor or 0.0
        self.requires_grad_(self.trainable)

    def fill(self, published: PublishedNetwork) -> None:
        """Takes over published weights of the same layout."""
        self.network.load_state_dict(published.state)

    def encode_latent(self, maskige: Tensor) -> Tensor:
        """The posterior's mean, the levels' reach being 1: (B, 3, H, W) float in [0, 1] to (B, D, h, w) float32."""
        mean: Tensor = self.network.encode(maskige * 2 - 1).latent_dist.mode()
        return (mean - self.centre) / self.spread

    def _posterior(self, maskige: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.network.encode(maskige * 2 - 1).latent_dist
        mean, unit = (posterior.mean - self.centre) / self.spread, REACH / self.spread
        squares = (mean * REACH).square() + posterior.var * unit**2  # in standard deviations
        divergence = (squares - 1 - posterior.logvar - 2 * math.log(unit)).mean() / 2
        return mean, self.kl_weight * divergence

    def _decode(self, latent: Tensor) -> Tensor:
        picture: Tensor = self.network.decode(latent * self.spread + self.centre).sample
        return picture
