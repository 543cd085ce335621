"""The labels themselves as a target of the token head: cross-entropy of what its expected decoding shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gss.losses import pixel_loss
from gss.networks.token_scores import TokenScores
from gss.pipeline import MaskigeAutoencoder
from gss.tokenizer.protocol import Decoded

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
    2.4 GB in float32 for a photograph of 768x768 with maskige.scale=2.

    Args:
        autoencoder: frozen, or with an inverse that learns by another loss.
        expected: what `autoencoder.draw(prior, "expected")` gave, with its graph.
        labels: (B, H, W) int64 in [0, K) or 255.
        class_weights: (K,) float32, what a pixel of each class counts; None: all the same.

    Returns:
        Scalar float32; 0 where no pixel is labelled.
    """
    with _only_asked(autoencoder.inverse):
        class_probs = autoencoder.read(expected, (labels.shape[-2], labels.shape[-1])).class_probs
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
        class_probs = autoencoder.read(autoencoder.draw(prior, "expected")).class_probs
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
