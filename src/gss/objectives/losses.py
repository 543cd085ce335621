"""Losses of the tokenizer, and the class weights by which rare classes count in the losses of both stages."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gss.labels import IGNORE


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


def class_weights(label_maps: Iterable[Tensor], num_classes: int, power: float) -> Tensor:
    """weight_k = share_k^-power, scaled so that the mean over labelled pixels is 1.

    Tokens and pixels follow the same rule, so that the pixel twin and generation agree.

    Args:
        label_maps: training labels, each (B, H, W) int64 in [0, K) or 255.
        num_classes: K.
        power: 0 counts every pixel alike, 1 every class alike.

    Returns:
        (K,) float32; a class without pixels gets the weight 1.

    Raises:
        ValueError: if `power` lies outside [0, 1] or nothing is labelled.
    """
    if not 0 <= power <= 1:
        raise ValueError(f"stage.class_balance must lie in [0, 1], got {power}")
    pixels = torch.zeros(num_classes, dtype=torch.float64)
    for labels in label_maps:
        pixels += torch.bincount(labels[labels != IGNORE], minlength=num_classes)
    if pixels.sum() == 0:
        raise ValueError("no training pixel is labelled: check the ignored ids in data.label_space")
    share = pixels / pixels.sum()
    weights = torch.where(share > 0, share.clamp(min=1e-12) ** -power, 1.0)
    return (weights / (weights * share).sum()).where(share > 0, torch.tensor(1.0, dtype=torch.float64)).float()


def token_weights(code_class_probs: Tensor, class_weights: Tensor) -> Tensor:
    """Mean weight of the pixels that a token decodes to: (V, K, stride, stride) and (K,) float32 to (V,) float32."""
    return torch.einsum("vkyx,k->v", code_class_probs, class_weights) / code_class_probs[0, 0].numel()
