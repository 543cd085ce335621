"""Decoding tokens with OpenAI's dVAE: codes looked up, picture by picture, against the published form.

The published decoder turns tokens into one-hot maps of 8192 channels, applies a 1x1 convolution, and decodes all
pictures of a batch at once. The weights are random: memory does not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from bench.harness import Effort, Row, peak_memory
from gss.tokenizer.dalle import DalleDVAE
from gss.tokenizer.dalle_network import DVAEDecoder, ResidualBlock, unmap_pixels

FIRST_GRID = (1, 64, 64)  # tokens of one 512x512 picture
BATCH_GRID = (8, 16, 16)  # of eight pictures of 128x128: memory grows with the area, time too
SMALL_GRID = (2, 5, 3)  # on which the results are compared
BAR = 4.0


def measure(effort: Effort) -> list[Row]:
    """Peak memory of the first layer alone, and of whole decoding."""
    torch.manual_seed(0)
    dvae = filled_dvae()
    layer = (partial(_codes, dvae.decoder), partial(one_hot_codes, dvae.decoder))
    whole = (lambda tokens: dvae.decode(tokens).maskige, partial(published_decoding, dvae.decoder))
    with torch.inference_mode():
        return [
            _row("dvae_first_layer_memory", *layer, torch.randint(dvae.vocab_size, FIRST_GRID)),
            _row("dvae_decoding_memory", *whole, torch.randint(dvae.vocab_size, BATCH_GRID)),
        ]


def filled_dvae() -> DalleDVAE:
    """The full-size dVAE with random weights."""
    dvae = DalleDVAE()
    dvae.load_state_dict(dvae.state_dict())  # it refuses to work before weights were loaded
    return dvae.eval()


def one_hot_codes(decoder: DVAEDecoder, tokens: Tensor) -> Tensor:
    """The published first layer: tokens (B, h, w) int64 to (B, code_dim, h, w) float32."""
    one_hot = nn.functional.one_hot(tokens, decoder.codebook.num_embeddings).permute(0, 3, 1, 2).float()
    return nn.functional.conv2d(one_hot, decoder.codebook.weight.T[:, :, None, None], decoder.code_bias)


def published_decoding(decoder: DVAEDecoder, tokens: Tensor) -> Tensor:
    """The published decoder: tokens (B, h, w) int64 to pictures (B, 3, 8 h, 8 w) float32 in [0, 1]."""
    features = one_hot_codes(decoder, tokens)
    for number, group in enumerate(decoder.groups):
        features = nn.functional.interpolate(features, scale_factor=2.0) if number else features
        for block in group:
            features = _published_block(block, features)
    return unmap_pixels(decoder.output(features.relu())[:, :3].sigmoid())


def _published_block(block: ResidualBlock, features: Tensor) -> Tensor:
    residual = features
    for convolution in block.convolutions:
        residual = convolution(residual.relu())
    return block.shortcut(features) + block.gain * residual


def _codes(decoder: DVAEDecoder, tokens: Tensor) -> Tensor:
    """Our first layer, as `DVAEDecoder` and its callers share it: (B, h, w) int64 to (B, code_dim, h, w) float32."""
    return decoder.codebook(tokens).movedim(-1, 1) + decoder.code_bias[:, None, None]


def _row(name: str, ours: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor], tokens: Tensor) -> Row:
    few = torch.randint(int(tokens.max()) + 1, SMALL_GRID)
    torch.testing.assert_close(ours(few), other(few), rtol=1e-4, atol=1e-5)
    held, held_by_other = peak_memory(lambda: ours(tokens)), peak_memory(lambda: other(tokens))
    return Row(name, (held,), (held_by_other,), "MiB", BAR)
