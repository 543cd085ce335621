"""Learned tokenizers: encoder, quantizer and decoder, and a small VQ-VAE of that form.

Maskiges are piecewise constant, so a few hundred thousand parameters go far.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gss.tokenizer.base import Decoded, Reconstruction, Tokenizer, check_divisible, full_precision
from gss.tokenizer.quantizers import Quantizer, build_quantizer


class LatentTokenizer(Tokenizer):
    """Tokens are the quantizer's codes of a latent; a subclass says how a maskige becomes a latent, and the reverse."""

    trainable, fitted = True, False
    quantizer: Quantizer

    @abstractmethod
    def encode_latent(self, maskige: Tensor) -> Tensor:
        """What the quantizer takes: (B, 3, H, W) float in [0, 1] to a latent (B, D, h, w) float32."""

    @abstractmethod
    def decode_latent(self, latent: Tensor) -> Tensor:
        """What codes show: (B, D, h, w) float to a maskige (B, 3, H, W) float32 in [0, 1]."""

    @property
    def code_table(self) -> Tensor:
        """The codes: (V, D) float32."""
        return self.quantizer.codebook

    def log_usage(self) -> Tensor:
        """Log of each code's share of the cells of recent training steps: (V,) float32, finite."""
        return self.quantizer.log_usage()

    def encode(self, maskige: Tensor) -> Tensor:
        """The quantizer's code of each cell: (B, 3, H, W) float in [0, 1] to (B, h, w) int64 in [0, V)."""
        check_divisible(maskige, self.stride)
        with full_precision(maskige):
            return self.quantizer.encode(self.encode_latent(maskige.float()))

    def token_logits(self, maskige: Tensor) -> Tensor:
        """Minus each cell's squared distance to the codes, up to a constant: (B, 3, H, W) float to (B, V, h, w)."""
        check_divisible(maskige, self.stride)
        with full_precision(maskige):
            return self.quantizer.logits(self.encode_latent(maskige.float()))

    def decode(self, tokens: Tensor) -> Decoded:
        """Code look-up, then the decoder: (B, h, w) int64 in [0, V) to a maskige (B, 3, H, W) float32."""
        return Decoded.colours(self.decode_latent(self.code_table[tokens].movedim(-1, 1)))

    def decode_mixed(self, mixed: Tensor) -> Decoded:
        """The decoder on averages (B, D, h, w) float32 of codes: a maskige (B, 3, H, W) float32."""
        return Decoded.colours(self.decode_latent(mixed))

    def reconstruct(self, maskige: Tensor) -> Reconstruction:
        """One training pass with straight-through gradients: (B, 3, H, W) float in [0, 1] to the same."""
        check_divisible(maskige, self.stride)
        with full_precision(maskige):  # so that training and `encode` agree on the tokens
            latent, penalty = self._training_latent(maskige)
            result = self.quantizer(latent)
        return Reconstruction(self.decode_latent(result.latent), result.tokens, result.commitment + penalty)

    def _training_latent(self, maskige: Tensor) -> tuple[Tensor, Tensor]:
        """The latent (B, D, h, w) that a training pass quantizes, and a scalar loss of its own."""
        return self.encode_latent(maskige), maskige.new_zeros(())


class VQVAE(LatentTokenizer):
    """Convolutional encoder, quantizer, convolutional decoder (van den Oord et al., 2017).

    Args:
        stride: pixels per token, a power of two.
        vocab_size: V, number of codes.
        hidden: width of the convolutions.
        num_blocks: residual blocks at the token grid, in the encoder and in the decoder.
        quantizer: `ema` (codes as moving averages), `fsq` (a fixed grid) or `lfq` (signs), see `quantizers`.
        code_dim: length of a code of `ema`; the others' follows from V.
        decay: of the codes' moving averages, and of the counted usage.
        levels: of `fsq`, with the product V; None: chosen from V.
        entropy_weight: of `lfq`: weight of certain and diverse choices beside the distance to the codes.
        diversity: of `lfq`: weight of diverse against certain choices.

    Raises:
        ValueError: if `stride` is not a power of two from 2 on, or the quantizer cannot have V codes.
    """

    def __init__(
        self,
        stride: int = 8,
        vocab_size: int = 1024,
        hidden: int = 64,
        num_blocks: int = 2,
        quantizer: str = "ema",
        code_dim: int = 16,
        decay: float = 0.95,
        levels: Sequence[int] | None = None,
        entropy_weight: float = 0.5,
        diversity: float = 1.0,
    ) -> None:
        super().__init__()
        if stride < 2 or stride & (stride - 1):
            raise ValueError(f"tokenizer.stride={stride} must be a power of two from 2 on for tokenizer=vqvae")
        self.stride, self.vocab_size = stride, vocab_size
        self.quantizer = build_quantizer(quantizer, vocab_size, code_dim, decay, levels, entropy_weight, diversity)
        self.encoder = _encoder(stride.bit_length() - 1, hidden, self.quantizer.dim, num_blocks)
        self.decoder = _decoder(stride.bit_length() - 1, hidden, self.quantizer.dim, num_blocks)

    def encode_latent(self, maskige: Tensor) -> Tensor:
        """The convolutions' output: (B, 3, H, W) float in [0, 1] to (B, D, h, w) float32."""
        return torch.as_tensor(self.encoder(maskige * 2 - 1))

    def decode_latent(self, latent: Tensor) -> Tensor:
        """Codes (B, D, h, w) float to a maskige (B, 3, H, W) float32 in [0, 1]."""
        return torch.as_tensor(self.decoder(latent)).float().sigmoid()


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) float to the same."""
        return features + torch.as_tensor(self.body(features))


def _encoder(num_halvings: int, hidden: int, code_dim: int, num_blocks: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for level in range(num_halvings):
        layers += [nn.Conv2d(3 if level == 0 else hidden, hidden, 4, stride=2, padding=1), nn.ReLU()]
    blocks = [_Residual(hidden) for _ in range(num_blocks)]
    return nn.Sequential(*layers, nn.Conv2d(hidden, hidden, 3, padding=1), *blocks, nn.Conv2d(hidden, code_dim, 1))


def _decoder(num_doublings: int, hidden: int, code_dim: int, num_blocks: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(code_dim, hidden, 3, padding=1)]
    layers += [_Residual(hidden) for _ in range(num_blocks)]
    for level in range(num_doublings):
        width = 3 if level == num_doublings - 1 else hidden
        layers += [nn.ReLU(), nn.ConvTranspose2d(hidden, width, 4, stride=2, padding=1)]
    return nn.Sequential(*layers)
