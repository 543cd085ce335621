"""How often training maskiges use each token of a tokenizer that is not trained on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from gss.tokenizer.protocol import Tokenizer

PRIOR_CELLS = 0.5  # added to every token, so that none is impossible


def count_tokens(
    tokenizer: Tokenizer,
    maskiges: Iterable[Tensor],
    ignore_colour: Tensor,
    num_pictures: int,
    on_iteration: Callable[[int], None],
) -> Tensor:
    """Cells that took each token among the first pictures, with half a cell added to every token.

    A cell counts where it covers a labelled pixel.

    Args:
        tokenizer: its tokens are counted.
        maskiges: pictures (B, 3, H, W) float32 in [0, 1].
        ignore_colour: (3,) float32 in [0, 1], on the tokenizer's device.
        num_pictures: how many are encoded.
        on_iteration: called with the number of pictures counted.

    Returns:
        counts (V,) float32 on that device.
    """
    counts, done = torch.full((tokenizer.vocab_size,), PRIOR_CELLS, device=ignore_colour.device), 0
    for maskige in maskiges:
        kept = maskige[: num_pictures - done].to(ignore_colour)
        labelled = (kept - ignore_colour[:, None, None]).abs().amax(1) > 1e-4
        counted = nn.functional.max_pool2d(labelled.float(), tokenizer.stride) > 0
        counts += tokenizer.encode(kept)[counted].bincount(minlength=tokenizer.vocab_size)
        done += len(kept)
        on_iteration(done)
        if done >= num_pictures:
            break
    return counts
