"""VQGAN's autoencoder (Esser et al., 2021, arXiv:2012.09841) as diffusers has it: `VQModel`, an optional extra."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from gss.tokenizer.diffusers_network import PublishedNetwork
from gss.tokenizer.diffusers_tokenizer import DiffusersTokenizer
from gss.tokenizer.quantizers import MovingAverageCodes


class VQGAN(DiffusersTokenizer):
    """Residual convolutions with group normalisation around a codebook; tokens are nearest codes.

    Here it is trained on maskiges by reconstruction and commitment alone: neither the discriminator nor the perceptual
    loss of the paper, both of which repair texture, and a maskige has none. Codes follow moving averages as those of
    `tokenizer=vqvae` do, where the paper moves them by gradient: so none stays unused.

    Args:
        network: arguments of `VQModel`, such as `block_out_channels`.
        stride: pixels per token; must be that of `network`.
        vocab_size: V.
        decay: of the codes' moving averages, and of the counted usage.
        weights: folder with published weights in diffusers' format; None: trained from nothing.
        frozen: keep the published weights as they are.
        usage_pictures: how many training maskiges are encoded to count the use of a frozen tokenizer's tokens.

    Raises:
        ValueError: if diffusers is not installed, or the settings contradict each other.
    """

    kind = "VQModel"
    config_keys: ClassVar[Mapping[str, str]] = {"num_vq_embeddings": "tokenizer.vocab_size"}
    quantizer: MovingAverageCodes

    def __init__(
        self,
        network: Mapping[str, Any],
        stride: int = 8,
        vocab_size: int = 1024,
        decay: float = 0.95,
        weights: str | None = None,
        frozen: bool = False,
        usage_pictures: int = 64,
    ) -> None:
        super().__init__(stride, network, weights, frozen, usage_pictures, num_vq_embeddings=vocab_size)
        self.vocab_size = vocab_size
        self.quantizer = MovingAverageCodes(self.network.quantize.vq_embed_dim, vocab_size, decay)
        self.network.quantize = nn.Identity()  # the quantizer above holds the codes
        self.requires_grad_(self.trainable)

    def fill(self, published: PublishedNetwork) -> None:
        """Takes over published weights of the same layout, codes included."""
        state = dict(published.state)
        self.quantizer.start_from(state.pop("quantize.embedding.weight"))
        self.network.load_state_dict(state)

    def encode_latent(self, maskige: Tensor) -> Tensor:
        """What is compared with the codes: (B, 3, H, W) float in [0, 1] to (B, D, h, w) float32."""
        latent: Tensor = self.network.encode(maskige * 2 - 1).latents
        return latent

    def _decode(self, latent: Tensor) -> Tensor:
        picture: Tensor = self.network.decode(latent, force_not_quantize=True).sample
        return picture
