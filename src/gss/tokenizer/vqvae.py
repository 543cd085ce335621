"""A small VQ-VAE for maskiges: they are piecewise constant, so a few hundred thousand parameters go far."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

from gss.tokenizer.protocol import Decoded, Reconstruction, Tokenizer, check_divisible, full_precision


class VQVAE(Tokenizer):
    """Convolutional encoder, quantizer with moving-average codes, convolutional decoder (van den Oord et al., 2017).

    The quantizer is `vector_quantize_pytorch.VectorQuantize`; codes that fall out of use restart at encoder outputs.

    Args:
        stride: pixels per token, a power of two.
        vocab_size: V, number of codes.
        hidden: width of the convolutions.
        code_dim: length of a code.
        num_blocks: residual blocks at the token grid, in the encoder and in the decoder.
        decay: of the codes' moving averages.

    Raises:
        ValueError: if `stride` is not a power of two from 2 on.
    """

    trainable = True

    def __init__(
        self,
        stride: int = 8,
        vocab_size: int = 1024,
        hidden: int = 64,
        code_dim: int = 16,
        num_blocks: int = 2,
        decay: float = 0.95,
    ) -> None:
        super().__init__()
        if stride < 2 or stride & (stride - 1):
            raise ValueError(f"tokenizer.stride={stride} must be a power of two from 2 on for tokenizer=vqvae")
        self.stride, self.vocab_size = stride, vocab_size
        self.encoder = _encoder(stride.bit_length() - 1, hidden, code_dim, num_blocks)
        self.quantizer = VectorQuantize(
            dim=code_dim,
            codebook_size=vocab_size,
            decay=decay,
            kmeans_init=True,
            threshold_ema_dead_code=1,
            accept_image_fmap=True,
            rotation_trick=False,
        )
        self.decoder = _decoder(stride.bit_length() - 1, hidden, code_dim, num_blocks)

    @property
    def codebook(self) -> Tensor:
        """The codes: (V, code_dim) float32."""
        return torch.as_tensor(self.quantizer.codebook)

    def log_usage(self) -> Tensor:
        """Log of each code's share in the quantizer's moving average: (V,) float32."""
        usage = self.quantizer._codebook.cluster_size.flatten().float() + 1e-3
        return torch.as_tensor((usage / usage.sum()).log())

    def encode(self, maskige: Tensor) -> Tensor:
        """Nearest code of each cell: (B, 3, H, W) float in [0, 1] to (B, h, w) int64 in [0, V)."""
        check_divisible(maskige, self.stride)
        codes = self.codebook
        with full_precision(maskige):
            latent = self.encoder(maskige * 2 - 1).movedim(1, -1)
            flat = torch.addmm(codes.square().sum(1), latent.flatten(0, 2), codes.T, alpha=-2)
        return flat.argmin(1).view(latent.shape[:-1])

    def decode(self, tokens: Tensor) -> Decoded:
        """Code look-up, then the decoder: (B, h, w) int64 in [0, V) to a maskige (B, 3, H, W) float32."""
        return self._decode_latent(self.codebook[tokens].movedim(-1, 1))

    def decode_expected(self, token_probs: Tensor) -> Decoded:
        """The decoder on the expected code under token_probs (B, V, h, w) float: a maskige (B, 3, H, W) float32."""
        with full_precision(token_probs):
            expected = torch.einsum("bvhw,vd->bdhw", token_probs.float(), self.codebook)
        return self._decode_latent(expected)

    def reconstruct(self, maskige: Tensor) -> Reconstruction:
        """One training pass with straight-through gradients: (B, 3, H, W) float in [0, 1] to the same."""
        check_divisible(maskige, self.stride)
        latent = self.encoder(maskige * 2 - 1)
        quantized, tokens, commitment = self.quantizer(latent)
        return Reconstruction(self._decode_latent(quantized).maskige, tokens, commitment)

    def _decode_latent(self, latent: Tensor) -> Decoded:
        """Codes (B, code_dim, h, w) float to a maskige (B, 3, H, W) float32 in [0, 1]."""
        return Decoded(self.decoder(latent).float().sigmoid())


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
