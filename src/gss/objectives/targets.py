"""Labels -> token targets: what the conditioning network learns where pixels are ignored (section 3.5, equation 7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gss.labels import IGNORE
from gss.pipeline import MaskigeAutoencoder
from gss.registry import one_of
from gss.tokenizer.base import Tokenizer

Spread = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class TokenTargets:
    """The posterior q(z | labels) as one token per cell.

    Args:
        tokens: (B, h, w) int64 in [0, V), the likeliest token of each cell.
        token_valid: (B, h, w) bool, the cell counts.
        spread: for a posterior that is not one-hot, its candidates (B, h, w, k) int64 in [0, V) and their shares
            (B, h, w, k) float32, which sum to 1 over k.
    """

    tokens: Tensor
    token_valid: Tensor
    spread: Spread | None = None

    @property
    def candidates(self) -> Tensor:
        """The tokens that the posterior gives a share: (B, h, w, k) int64 in [0, V)."""
        return self.tokens[..., None] if self.spread is None else self.spread[0]

    @property
    def shares(self) -> Tensor:
        """What the posterior gives each candidate: (B, h, w, k) float32, sums to 1 over k."""
        return torch.ones_like(self.candidates, dtype=torch.float32) if self.spread is None else self.spread[1]


def masked(labels: Tensor, pixel_logits: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Ignored pixels stay ignored: they are painted in the ignore colour, and a cell with no other does not count.

    Labels (B, H, W) int64 pass unchanged, beside token_valid (B, h, w) bool; pixel_logits (B, K, H, W) play no part.
    """
    return labels, token_valid(labels, stride)


def filled(labels: Tensor, pixel_logits: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Ignored pixels take the pixel head's prediction, and every cell counts (equation 7 as printed).

    Gives labels (B, H, W) int64 in [0, K) and token_valid (B, h, w) bool, all true; pixel_logits are (B, K, H, W).
    """
    painted = filled_labels(labels, pixel_logits)
    return painted, token_valid(painted, stride)


def both(labels: Tensor, pixel_logits: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Filled, but a cell with nothing labelled does not count: what the released code does.

    So the pixel head has a say in cells that are labelled in part, and in what a tokenizer sees around a cell.

    Gives labels (B, H, W) int64 in [0, K) and token_valid (B, h, w) bool; pixel_logits are (B, K, H, W) float.
    """
    return filled_labels(labels, pixel_logits), token_valid(labels, stride)


IGNORE_POLICIES: dict[str, Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]] = {
    "both": both,
    "masked": masked,
    "filled": filled,
}


def filled_labels(labels: Tensor, pixel_logits: Tensor) -> Tensor:
    """Ignored pixels take the pixel head's prediction: c~ = M_u * c_pseudo + (1 - M_u) * c (equation 7).

    Args:
        labels: (B, H, W) int64 in [0, K) or 255.
        pixel_logits: (B, K, H, W) float, the auxiliary head's scores.

    Returns:
        labels (B, H, W) int64 in [0, K), without ignored pixels.
    """
    return torch.where(labels == IGNORE, pixel_logits.argmax(dim=1), labels)


def token_valid(labels: Tensor, stride: int) -> Tensor:
    """A cell counts unless all of its pixels are ignored: (B, H, W) int64 to (B, h, w) bool, h and w rounded up."""
    labelled = (labels != IGNORE).float()[:, None]
    return nn.functional.max_pool2d(labelled, stride, ceil_mode=True)[:, 0] > 0


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
POSTERIORS = ("one_hot", "soft", "smoothed")


class TargetEncoder(nn.Module):
    """q(z | labels) where pixels may be ignored: what the conditioning network learns of every cell (equation 7).

    Args:
        posterior: what a cell's labels say of tokens; None: one-hot.
        ignore_policy: what becomes of ignored pixels, a key of `IGNORE_POLICIES`.
        fill_warmup: optimiser steps during which the pixel head's guesses are not trusted yet and the policy is
            `masked`; 0 trusts them from the first step, as released.

    Raises:
        ValueError: for an unknown policy, or a negative number of steps.
    """

    def __init__(self, posterior: Posterior | None = None, ignore_policy: str = "both", fill_warmup: int = 0) -> None:
        super().__init__()
        one_of(IGNORE_POLICIES, "stage.ignore_policy", ignore_policy)
        if fill_warmup < 0:
            raise ValueError(f"stage.fill_warmup={fill_warmup} must be a number of steps, 0 or more")
        self.posterior = posterior or OneHotPosterior()
        self.ignore_policy, self.fill_warmup = ignore_policy, fill_warmup

    @torch.no_grad()
    def forward(
        self, autoencoder: MaskigeAutoencoder, labels: Tensor, pixel_logits: Tensor, step: int = 0
    ) -> TokenTargets:
        """The targets of a batch.

        Args:
            autoencoder: paints the labels, and its tokenizer encodes them.
            labels: (B, H, W) int64 in [0, K) or 255.
            pixel_logits: (B, K, H, W) float, what ignored pixels are filled with.
            step: optimiser steps that are done.
        """
        policy = IGNORE_POLICIES["masked" if step < self.fill_warmup else self.ignore_policy]
        painted, valid = policy(labels, pixel_logits, autoencoder.stride)
        encoded = self.posterior(autoencoder.tokenizer, autoencoder.paint(painted))
        if isinstance(encoded, Tensor):
            return TokenTargets(encoded, valid)
        return TokenTargets(encoded[0][..., 0], valid, encoded)


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
    one_of(POSTERIORS, "stage.posterior.name", name)
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
