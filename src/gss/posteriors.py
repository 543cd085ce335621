"""q(z | labels) per cell: one token (the paper), the tokenizer's own distribution, or a token and its likes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gss.targets import Spread
from gss.tokenizer.protocol import Tokenizer

ROWS_AT_ONCE = 512  # of the distances between all codes: 16 MiB for 8192 of them


class OneHotPosterior(nn.Module):
    """All of a cell's probability to the tokenizer's token."""

    def forward(self, tokenizer: Tokenizer, maskige: Tensor) -> Tensor:
        """Tokens (B, h, w) int64 in [0, V) of a maskige (B, 3, H, W) float32 in [0, 1]."""
        return tokenizer.encode(maskige)


class SoftPosterior(nn.Module):
    """The tokenizer's own distribution over the tokens that explain a cell best.

    Args:
        candidates: k, how many tokens get a share.
        temperature: of the tokenizer's scores; towards 0 the posterior becomes one-hot.

    Raises:
        ValueError: if one of them is not positive.
    """

    def __init__(self, candidates: int, temperature: float) -> None:
        super().__init__()
        _check_neighbours(candidates)
        if temperature <= 0:
            raise ValueError(
                f"stage.posterior.temperature={temperature} must be positive: stage.posterior.name=one_hot is its limit"
            )
        self.candidates, self.temperature = candidates, temperature

    def forward(self, tokenizer: Tokenizer, maskige: Tensor) -> Spread:
        """Candidates (B, h, w, k) int64 and shares (B, h, w, k) float32 of a maskige (B, 3, H, W) float32 in [0, 1]."""
        return tokenizer.posterior(maskige, self.candidates, self.temperature)


class SmoothedPosterior(nn.Module):
    """Label smoothing among tokens that show nearly the same: 1 - epsilon to the token, epsilon to its neighbours.

    Smoothing over all tokens alike (Szegedy et al., CVPR 2016) would tell the network that a patch of road may as well
    be one of sky. Here epsilon is divided equally among the k tokens that decode to what is most like it.

    Args:
        codes: (V, K, stride, stride) float32, what each token decodes to (`code_class_probs`).
        neighbours: k.
        smoothing: epsilon, in [0, 1).

    Raises:
        ValueError: if k is not positive, or epsilon out of range.
    """

    neighbours: Tensor

    def __init__(self, codes: Tensor, neighbours: int, smoothing: float) -> None:
        super().__init__()
        _check_neighbours(neighbours)
        if not 0 <= smoothing < 1:
            raise ValueError(f"stage.posterior.smoothing={smoothing} must lie in [0, 1)")
        self.smoothing = smoothing
        self.register_buffer("neighbours", nearest_tokens(codes, neighbours), persistent=False)

    def forward(self, tokenizer: Tokenizer, maskige: Tensor) -> Spread:
        """Candidates (B, h, w, 1 + k) int64 and shares (B, h, w, 1 + k) float32 of a maskige (B, 3, H, W) in [0, 1]."""
        tokens = tokenizer.encode(maskige)
        candidates = torch.cat([tokens[..., None], self.neighbours[tokens]], dim=-1)
        others = candidates.shape[-1] - 1
        kept = 1 - self.smoothing if others else 1.0
        shares = maskige.new_tensor([kept] + others * [self.smoothing / max(others, 1)], dtype=torch.float32)
        return candidates, shares.expand(candidates.shape)


Posterior = OneHotPosterior | SoftPosterior | SmoothedPosterior
NAMES = ("one_hot", "soft", "smoothed")


def build_posterior(
    name: str, temperature: float, neighbours: int, smoothing: float, codes: Tensor | None
) -> Posterior:
    """The posterior that `stage.posterior.name` names.

    Args:
        name: one_hot, soft or smoothed.
        temperature: of soft.
        neighbours: of soft the tokens that get a share, of smoothed those beside the cell's own.
        smoothing: of smoothed.
        codes: (V, K, stride, stride) float32, what each token decodes to; smoothed alone needs it.

    Raises:
        ValueError: for another name, or a setting out of range.
    """
    if name not in NAMES:
        raise ValueError(f"unknown stage.posterior.name={name!r}: one of {', '.join(NAMES)}")
    if name == "soft":
        return SoftPosterior(neighbours, temperature)
    if name == "one_hot":
        return OneHotPosterior()
    assert codes is not None
    return SmoothedPosterior(codes, neighbours, smoothing)


def nearest_tokens(codes: Tensor, number: int) -> Tensor:
    """The tokens whose decoded class probabilities lie nearest to each token's, the nearest first, without itself.

    Args:
        codes: (V, K, stride, stride) float32.
        number: k; where there are fewer other tokens, all of them are given.

    Returns:
        (V, k) int64 in [0, V).
    """
    points, number = codes.flatten(1), min(number, len(codes) - 1)
    found = []
    for rows in torch.arange(len(points), device=points.device).split(ROWS_AT_ONCE):
        distances = torch.cdist(points[rows], points)
        itself = distances.scatter_(1, rows[:, None], torch.inf)
        found.append(itself.topk(number, dim=1, largest=False).indices)
    return torch.cat(found)


def _check_neighbours(number: int) -> None:
    if number < 1:
        raise ValueError(f"stage.posterior.neighbours={number} must be at least 1")
