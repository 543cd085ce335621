"""Labels -> token targets: what the conditioning network learns where pixels are ignored (section 3.5, equation 7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gss.labels import IGNORE
from gss.maskige.transform import MaskigeTransform
from gss.tokenizer.protocol import Tokenizer


@dataclass(frozen=True)
class TokenTargets:
    """The posterior q(z | labels) as one token per cell.

    Args:
        tokens: (B, h, w) int64 in [0, V).
        token_valid: (B, h, w) bool, the cell covers at least one labelled pixel.
    """

    tokens: Tensor
    token_valid: Tensor


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
    """A cell counts unless all of its pixels are ignored: (B, H, W) int64 to (B, H/stride, W/stride) bool."""
    labelled = (labels != IGNORE).float()[:, None]
    return nn.functional.max_pool2d(labelled, stride)[:, 0] > 0


@torch.no_grad()
def token_targets(
    labels: Tensor, pixel_logits: Tensor, policy: str, transform: MaskigeTransform, tokenizer: Tokenizer
) -> TokenTargets:
    """Paints the labels under an ignore policy and encodes them.

    Args:
        labels: (B, H, W) int64 in [0, K) or 255.
        pixel_logits: (B, K, H, W) float, used by the policy `filled`.
        policy: a key of `IGNORE_POLICIES`.
        transform: paints the maskige.
        tokenizer: encodes it.

    Raises:
        ValueError: for an unknown policy.
    """
    if policy not in IGNORE_POLICIES:
        raise ValueError(f"unknown stage.ignore_policy={policy!r}: one of {', '.join(IGNORE_POLICIES)}")
    painted = transform.paint(IGNORE_POLICIES[policy](labels, pixel_logits.detach()))
    return TokenTargets(tokenizer.encode(painted), token_valid(labels, tokenizer.stride))
