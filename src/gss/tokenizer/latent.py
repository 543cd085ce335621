"""What learned tokenizers share: an encoder, a quantizer in the middle, and a decoder that reads codes."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from gss.tokenizer.base import Decoded, Reconstruction, Tokenizer, check_divisible, full_precision
from gss.tokenizer.quantizers import Quantizer


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
    def codebook(self) -> Tensor:
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
        return Decoded.colours(self.decode_latent(self.codebook[tokens].movedim(-1, 1)))

    @property
    def code_table(self) -> Tensor:
        """The codes: (V, D) float32."""
        return self.codebook

    def decode_mixed(self, mixed: Tensor) -> Decoded:
        """The decoder on averages (B, D, h, w) float32 of codes: a maskige (B, 3, H, W) float32."""
        return Decoded.colours(self.decode_latent(mixed))

    def reconstruct(self, maskige: Tensor) -> Reconstruction:
        """One training pass with straight-through gradients: (B, 3, H, W) float in [0, 1] to the same."""
        check_divisible(maskige, self.stride)
        with full_precision(maskige):  # so that training and `encode` agree on the tokens
            latent, penalty = self._posterior(maskige)
            result = self.quantizer(latent)
        return Reconstruction(self.decode_latent(result.latent), result.tokens, result.commitment + penalty)

    def _posterior(self, maskige: Tensor) -> tuple[Tensor, Tensor]:
        """The latent (B, D, h, w) that a training pass quantizes, and a scalar loss of its own."""
        return self.encode_latent(maskige), maskige.new_zeros(())
