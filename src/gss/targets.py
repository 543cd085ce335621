"""Labels -> token targets: what the conditioning network learns where pixels are ignored (section 3.5, equation 7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gss.labels import IGNORE


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
    spread: tuple[Tensor, Tensor] | None = None

    @property
    def candidates(self) -> Tensor:
        """The tokens that the posterior gives a share: (B, h, w, k) int64 in [0, V)."""
        return self.tokens[..., None] if self.spread is None else self.spread[0]

    @property
    def shares(self) -> Tensor:
        """What the posterior gives each candidate: (B, h, w, k) float32, sums to 1 over k."""
        return torch.ones_like(self.candidates, dtype=torch.float32) if self.spread is None else self.spread[1]


def masked_labels(labels: Tensor, pixel_logits: Tensor) -> Tensor:
    """Ignored pixels stay ignored: they are painted in the ignore colour.

    Labels (B, H, W) int64 pass unchanged; pixel_logits (B, K, H, W) float play no part.
    """
    return labels


def filled_labels(labels: Tensor, pixel_logits: Tensor) -> Tensor:
    """Ignored pixels take the pixel head's prediction: c~ = M_u * c_pseudo + (1 - M_u) * c (equation 7).

    Args:
        labels: (B, H, W) int64 in [0, K) or 255.
        pixel_logits: (B, K, H, W) float, the auxiliary head's scores.

    Returns:
        labels (B, H, W) int64 in [0, K), without ignored pixels.
    """
    return torch.where(labels == IGNORE, pixel_logits.argmax(dim=1), labels)


IGNORE_POLICIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"masked": masked_labels, "filled": filled_labels}


def token_valid(labels: Tensor, stride: int) -> Tensor:
    """A cell counts unless all of its pixels are ignored: (B, H, W) int64 to (B, h, w) bool, h and w rounded up."""
    labelled = (labels != IGNORE).float()[:, None]
    return nn.functional.max_pool2d(labelled, stride, ceil_mode=True)[:, 0] > 0


@torch.no_grad()
def token_targets(
    labels: Tensor, pixel_logits: Tensor, policy: str, encode: Callable[[Tensor], Tensor], stride: int
) -> TokenTargets:
    """Encodes the labels under an ignore policy.

    Args:
        labels: (B, H, W) int64 in [0, K) or 255.
        pixel_logits: (B, K, H, W) float, used by the policy `filled`.
        policy: a key of `IGNORE_POLICIES`.
        encode: the posterior: labels (B, H, W) int64 to tokens (B, h, w) int64.
        stride: pixels per token.

    Raises:
        ValueError: for an unknown policy.
    """
    if policy not in IGNORE_POLICIES:
        raise ValueError(f"unknown stage.ignore_policy={policy!r}: one of {', '.join(IGNORE_POLICIES)}")
    tokens = encode(IGNORE_POLICIES[policy](labels, pixel_logits.detach()))
    return TokenTargets(tokens, token_valid(labels, stride))
