"""Losses of both stages, each the mean over what is labelled; a batch without labels costs exactly zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gss.labels import IGNORE


def pixel_loss(pixel_logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of the pixel head over labelled pixels.

    Args:
        pixel_logits: (B, K, H, W) float.
        labels: (B, H, W) int64 in [0, K) or 255.
        class_weights: (K,) float32, what a pixel of each class counts; None: all the same.

    Returns:
        Scalar float32; 0 where no pixel is labelled.
    """
    return _mean_cross_entropy(pixel_logits, labels, IGNORE, class_weights)


def reconstruction_loss(decoded: Tensor, maskige: Tensor) -> Tensor:
    """Mean squared colour distance |D(z) - X(c)|^2 of stage one: two (B, 3, H, W) float in [0, 1] to a scalar."""
    return nn.functional.mse_loss(decoded, maskige) * 3


def mistake_loss(class_scores: Tensor, labels: Tensor, class_weights: Tensor) -> Tensor:
    """Expected cost of the mistakes: the mean over pixels of sum_j p_j (w_k + w_j), over all classes j but the true k.

    A pixel of class k that is shown as j adds to the unions of both, so with weights of 1 / share this is, up to a
    factor, what the expected mistakes take from the mIoU to first order.

    Args:
        class_scores: (B, K, H, W) float, log-probabilities up to a constant per pixel.
        labels: (B, H, W) int64 in [0, K) or 255.
        class_weights: (K,) float32.

    Returns:
        Scalar float32; 0 where no pixel is labelled.
    """
    class_probs, labelled = class_scores.float().softmax(dim=1), labels != IGNORE
    true = torch.where(labelled, labels, 0)
    right, weight = class_probs.gather(1, true[:, None])[:, 0], class_weights[true]
    cost = torch.einsum("bkhw,k->bhw", class_probs, class_weights) + weight * (1 - 2 * right)
    return (cost * labelled).sum() / labelled.sum().clamp(min=1)


def _mean_cross_entropy(logits: Tensor, target: Tensor, ignore_index: int, weights: Tensor | None) -> Tensor:
    """Weighted loss per target not ignored: logits (B, C, H, W), target (B, H, W) int64, weights (C,) to a scalar."""
    rows = logits.movedim(1, -1).flatten(0, -2).float()  # one position a row: twice as fast where C is large
    total = nn.functional.cross_entropy(rows, target.flatten(), weights, ignore_index=ignore_index, reduction="sum")
    return total / (target != ignore_index).sum().clamp(min=1)
