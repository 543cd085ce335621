"""A small VQ-VAE for maskiges: they are piecewise constant, so a few hundred thousand parameters go far."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gss.tokenizer.latent import LatentTokenizer
from gss.tokenizer.quantizers import build_quantizer


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
