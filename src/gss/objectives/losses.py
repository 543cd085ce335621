"""Losses of both stages, each the mean over what is labelled; a batch without labels costs exactly zero."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gss.labels import IGNORE
from gss.networks.token_scores import TokenScores
from gss.pipeline import MaskigeAutoencoder
from gss.tokenizer.base import Decoded


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


# FOLDED What rare classes count in the losses: the same rule for tokens and for pixels, so that twin and generation
# agree.


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


# FOLDED The labels themselves as a target of the token head: cross-entropy of what its expected decoding shows.

FLOOR = 1e-12  # added to class probabilities, of which a decoder may give a class none at all


def label_loss(
    autoencoder: MaskigeAutoencoder, expected: Decoded, labels: Tensor, class_weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of labels under the class probabilities that an expected decoding shows.

    The divergence counts every wrong token alike, even one that shows the same but for a pixel; this loss counts wrong
    pixels. Its gradient reaches the token scores through the decoder, and through X^-1 where that is asked, none of
    which learns by it.

    It costs a decoding of the whole maskige, forward and back, with all maps that its gradient needs kept. With a patch
    dictionary, whose decoding is cheap, it made a step of experiment=camvid_cpu 1.6 times as long on one core. A
    convolutional decoder works at full size: the last maps of tokenizer=dalle have 256 channels, and each of them takes
    2.4 GB in float32 for an image of 768x768 with maskige.scale=2.

    Args:
        autoencoder: frozen, or with an inverse that learns by another loss.
        expected: what `autoencoder.decode_scores(prior, "expected")` gave, with its graph.
        labels: (B, H, W) int64 in [0, K) or 255.
        class_weights: (K,) float32, what a pixel of each class counts; None: all the same.

    Returns:
        Scalar float32; 0 where no pixel is labelled.
    """
    with _only_asked(autoencoder.inverse):
        class_probs = autoencoder.read(expected, (labels.shape[-2], labels.shape[-1])).class_probs()
    return pixel_loss((class_probs.float() + FLOOR).log(), labels, class_weights)


def check_passes_gradients(autoencoder: MaskigeAutoencoder) -> None:
    """Refuses an autoencoder through which labels have no say in token scores, by decoding a few cells.

    Raises:
        ValueError: naming the key to change.
    """
    table = autoencoder.tokenizer.code_table
    weight = table.new_zeros(len(table), 1).requires_grad_()
    prior = TokenScores(table.new_ones(1, 3, 3, 1), weight, table.new_zeros(len(table)))
    with torch.enable_grad():
        class_probs = autoencoder.read(autoencoder.decode_scores(prior, "expected")).class_probs()
    if not class_probs.requires_grad:
        raise ValueError(
            "stage.label_weight needs a decoding that passes gradients on, and here maskige.inverse reads colours that "
            "pass none: set maskige.inverse.name=soft_distance or maskige.native_probs=true, or stage.label_weight=0"
        )


@contextmanager
def _only_asked(inverse: nn.Module) -> Iterator[None]:
    """Keeps weights and running statistics as they are, while gradients pass through to what is read."""
    learning, training = [weight for weight in inverse.parameters() if weight.requires_grad], inverse.training
    inverse.eval()
    for weight in learning:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        inverse.train(training)
        for weight in learning:
            weight.requires_grad_(True)
