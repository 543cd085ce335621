"""OpenAI's DALL-E dVAE as a tokenizer: the one that the GSS paper uses, frozen and with its published weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from gss.tokenizer.base import Decoded, Tokenizer, check_divisible, count_tokens, full_precision
from gss.tokenizer.dalle_network import STRIDE, DVAEDecoder, DVAEEncoder, DVAELayout
from gss.tokenizer.dalle_weights import HOW_TO_GET, DalleWeights


class DalleDVAE(Tokenizer):
    """Tokens are the encoder's likeliest classes; the decoder reads their codes, looked up or expected.

    Nothing is trained. `fit` reads the weights and counts how often training maskiges use each token; both travel with
    the state dict, so what `stage=prior` saved needs no weights file. Autocast reaches the decoder only: the published
    code encodes in float16 on a GPU, which picks other tokens than a CPU does.

    Args:
        weights: path of the file that `python -m gss.convert dalle` wrote.
        sha256: expected sums in hex of the files it was made from, under `encoder` and `decoder`; None: any.
        stride: pixels per token; the layout's is 8.
        vocab_size: V.
        hidden: width of the first encoder group.
        code_dim: length of a code.
        num_blocks: residual blocks per group.
        usage_pictures: how many training maskiges are encoded to count token usage; the encoder is slow on a CPU.

    Raises:
        ValueError: for another stride, or for sizes that the networks cannot have.
    """

    trainable, fitted = False, True
    log_frequency: Tensor

    def __init__(
        self,
        weights: str | None = None,
        sha256: Mapping[str, str] | None = None,
        stride: int = STRIDE,
        vocab_size: int = 8192,
        hidden: int = 256,
        code_dim: int = 128,
        num_blocks: int = 2,
        usage_pictures: int = 64,
    ) -> None:
        super().__init__()
        if stride != STRIDE:
            raise ValueError(f"tokenizer.stride={stride}: tokenizer=dalle has the published stride {STRIDE}")
        if usage_pictures < 1:
            raise ValueError(f"tokenizer.usage_pictures={usage_pictures} must be at least 1")
        self.weights, self.sha256, self.usage_pictures = weights, sha256, usage_pictures
        self.stride, self.vocab_size = stride, vocab_size
        self.layout = DVAELayout(vocab_size, hidden, num_blocks, code_dim)
        self.encoder, self.decoder = DVAEEncoder(self.layout), DVAEDecoder(self.layout)
        self.register_buffer("log_frequency", torch.full((vocab_size,), 1 / vocab_size).log())
        self.requires_grad_(False)
        self._filled = False

    def load_weights(self) -> None:
        """Reads the file that the setting `weights` names.

        Raises:
            ValueError: if none is named, or it is missing, damaged, of another layout or made from other files.
        """
        if self.weights is None:
            raise ValueError(HOW_TO_GET)
        found = DalleWeights.load(self.weights)
        found.check_matches(self.layout, self.sha256)
        try:
            self.load_state_dict({**found.state, "log_frequency": self.log_frequency})
        except RuntimeError as error:
            raise ValueError(
                f"tokenizer.weights={self.weights} lacks tensors: {' '.join(str(error).split())}"
            ) from error

    def fit(
        self,
        maskiges: Iterable[Tensor],
        colours: Tensor,
        ignore_colour: Tensor,
        on_iteration: Callable[[int], None] = lambda iteration: None,
    ) -> None:
        """Reads the weights, then counts the tokens of the first maskiges (B, 3, H, W); `colours` (K, 3) play no part.

        Raises:
            ValueError: if there are no weights to read.
        """
        self.load_weights()
        counts = count_tokens(self, maskiges, ignore_colour.to(self.log_frequency), self.usage_pictures, on_iteration)
        self.log_frequency = (counts / counts.sum()).log()

    def encode(self, maskige: Tensor) -> Tensor:
        """The posterior's argmax: (B, 3, H, W) float in [0, 1] to tokens (B, h, w) int64 in [0, V)."""
        self._check_filled()
        check_divisible(maskige, self.stride)
        with full_precision(maskige):
            features = self.encoder.features(maskige.float())
            # picture by picture: V scores per cell are 16 times the features they come from
            tokens = [self.encoder.output(picture[None]).max(dim=1).indices for picture in features]
        return torch.cat(tokens)

    def token_logits(self, maskige: Tensor) -> Tensor:
        """The encoder's logits, all at once: (B, 3, H, W) float in [0, 1] to (B, V, h, w) float32."""
        self._check_filled()
        check_divisible(maskige, self.stride)
        with full_precision(maskige):
            return torch.as_tensor(self.encoder(maskige.float()))

    def decode(self, tokens: Tensor) -> Decoded:
        """Code look-up, then the decoder: (B, h, w) int64 in [0, V) to a maskige (B, 3, H, W) float32 in [0, 1]."""
        self._check_filled()
        return self._decode_codes(self.decoder.codebook(tokens).movedim(-1, 1))

    @property
    def code_table(self) -> Tensor:
        """The codes that the decoder's first layer holds: (V, code_dim) float32."""
        self._check_filled()
        return self.decoder.codebook.weight

    def decode_mixed(self, mixed: Tensor) -> Decoded:
        """The decoder on averages (B, code_dim, h, w) float32 of codes: a maskige (B, 3, H, W) float32."""
        self._check_filled()
        return self._decode_codes(mixed)

    def log_usage(self) -> Tensor:
        """Log of each token's share of the counted cells, smoothed: (V,) float32; uniform before `fit`."""
        return self.log_frequency

    def _decode_codes(self, codes: Tensor) -> Decoded:
        """(B, code_dim, h, w) float to pictures, one by one: the decoder's last maps are 256 channels at full size."""
        return Decoded.colours(torch.cat([self.decoder(picture[None]) for picture in codes]))

    def _check_filled(self) -> None:
        if not self._filled:
            raise ValueError(f"the dVAE has no weights yet: call load_weights() or fit(); {HOW_TO_GET}")

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._filled = True
