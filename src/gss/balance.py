"""What rare classes count in the losses: the same rule for tokens and for pixels, so that twin and generation agree."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from gss.labels import IGNORE


def class_weights(label_maps: Iterable[Tensor], num_classes: int, power: float) -> Tensor:
    """weight_k = share_k^-power, scaled so that the mean over labelled pixels is 1.

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
