"""What stage=conditioning minimises: a weighted sum of losses, each with its own log key.

Each loss is a mean over what is labelled; a batch without labels costs exactly zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gss.labels import IGNORE
from gss.networks.conditioning import ConditioningOutput
from gss.networks.token_scores import TokenScores
from gss.objectives.divergence import focal_divergence
from gss.objectives.targets import TargetEncoder, TokenTargets, build_posterior
from gss.objectives.transforms import check_inverse_learns
from gss.pipeline import MaskigeAutoencoder
from gss.tokenizer.base import Decoded

FLOOR = 1e-12  # added to class probabilities, of which a decoder may give a class none at all
WEIGHTS = ("token_weight", "pixel_weight", "label_weight", "inverse_weight", "focal")  # keys of the group stage


class ConditioningLoss(nn.Module):
    """The weighted sum that stage=conditioning minimises; a part of weight 0 is left out.

    loss = token_weight x KL(q(z | labels) || p(z | image)) + pixel_weight x pixel loss
         + label_weight x label loss + inverse_weight x reading loss

    The first two weights are the released ones. For the pixel twin, which has no tokens, the loss is the pixel loss.

    Args:
        token_weight: of the token divergence.
        pixel_weight: of the pixel loss.
        label_weight: of the label loss, which reads the expected decoding.
        inverse_weight: of the reading loss of X^-1, by which the inverse alone learns.
        focal: gamma, by which cells that are right already count less in the divergence that is minimised.
        readout: expected or argmax, how the maskiges are decoded that the inverse learns to read.
        class_weights: (K,) float32, what a pixel of each class counts; None: all the same.
        token_weights: (V,) float32, what a cell of each token counts; None: all the same.

    Raises:
        ValueError: if one of the weights or gamma is negative.
    """

    class_weights: Tensor | None
    token_weights: Tensor | None

    def __init__(
        self,
        token_weight: float = 0.8,
        pixel_weight: float = 0.2,
        label_weight: float = 0.0,
        inverse_weight: float = 0.0,
        focal: float = 0.0,
        readout: str = "expected",
        class_weights: Tensor | None = None,
        token_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        weights = (token_weight, pixel_weight, label_weight, inverse_weight, focal)
        for name, given in zip(WEIGHTS, weights, strict=True):
            if given < 0:
                raise ValueError(f"stage.{name}={given} must not be negative")
        self.token_weight, self.pixel_weight, self.label_weight, self.inverse_weight, self.focal = weights
        self.readout = readout
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.register_buffer("token_weights", token_weights, persistent=False)

    def forward(
        self,
        autoencoder: MaskigeAutoencoder | None,
        output: ConditioningOutput,
        targets: TokenTargets | None,
        labels: Tensor,
    ) -> dict[str, Tensor]:
        """Scalars float32 by log key: `train/loss`, the weighted sum, and each part of it.

        `train/token_divergence` is the divergence itself, whatever `focal` makes of it in the sum.

        Args:
            autoencoder: decodes what the network says; None for the pixel twin.
            output: of a batch of images.
            targets: what its tokens shall be; None for the pixel twin.
            labels: (B, H, W) int64 in [0, K) or 255.
        """
        pixels = pixel_loss(output.pixel_logits, labels, self.class_weights)
        if autoencoder is None:
            return {"train/loss": pixels, "train/pixel_loss": pixels}
        assert output.prior is not None
        assert targets is not None
        minimised, divergence = focal_divergence(output.prior, targets, self.token_weights, self.focal)
        loss = self.token_weight * minimised + self.pixel_weight * pixels
        parts = {"train/token_divergence": divergence, "train/pixel_loss": pixels}
        expected = autoencoder.decode_scores(output.prior, "expected") if self.label_weight else None
        if expected is not None:
            parts["train/label_loss"] = label_loss(autoencoder, expected, labels, self.class_weights)
            loss = loss + self.label_weight * parts["train/label_loss"]
        if self.inverse_weight:
            maskige = self._generated(autoencoder, output.prior, expected)
            parts["train/reading"] = reading_loss(autoencoder, maskige, labels, self.class_weights)
            loss = loss + self.inverse_weight * parts["train/reading"]
        return {"train/loss": loss, **parts}

    @torch.no_grad()
    def _generated(self, autoencoder: MaskigeAutoencoder, prior: TokenScores, expected: Decoded | None) -> Tensor:
        """The maskige (B, 3, H', W') float32 of the readout, without its graph, and decoded only once."""
        if expected is not None and self.readout == "expected":
            return expected.maskige.detach()
        return autoencoder.decode_scores(prior, self.readout).maskige


def pixel_loss(pixel_logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of the pixel head over labelled pixels.

    Args:
        pixel_logits: (B, K, H, W) float.
        labels: (B, H, W) int64 in [0, K) or 255.
        class_weights: (K,) float32, what a pixel of each class counts; None: all the same.

    Returns:
        Scalar float32; 0 where no pixel is labelled.
    """
    rows = pixel_logits.movedim(1, -1).flatten(0, -2).float()  # one position a row: twice as fast where K is large
    total = nn.functional.cross_entropy(rows, labels.flatten(), class_weights, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


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


def reading_loss(
    autoencoder: MaskigeAutoencoder, maskige: Tensor, labels: Tensor, class_weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of X^-1 over labelled pixels, at the maskige's resolution.

    Args:
        autoencoder: whose inverse reads.
        maskige: (B, 3, H', W') float32, decoded, of whole cells.
        labels: (B, H, W) int64 in [0, K) or 255.
        class_weights: (K,) float32, what a pixel of each class counts; None: all the same.

    Returns:
        Scalar float32; 0 where no pixel is labelled.
    """
    scores = autoencoder.inverse.class_scores(maskige, autoencoder.transform.colours)
    return pixel_loss(scores, autoencoder.render(labels), class_weights)


def build_criterion(
    config: Mapping[str, Any],
    autoencoder: MaskigeAutoencoder | None,
    readout: str,
    class_weights: Tensor | None = None,
    token_weights: Tensor | None = None,
) -> ConditioningLoss:
    """The loss that the group stage of a configuration describes.

    Args:
        config: plain data with the groups stage, maskige and tokenizer.
        autoencoder: of the training; None for the pixel twin.
        readout: expected, argmax or pixel, of the training.
        class_weights: (K,) float32, what a pixel of each class counts; None: all the same.
        token_weights: (V,) float32, what a cell of each token counts; None: all the same.

    Raises:
        ValueError: for a weight out of range, or an inverse that cannot learn.
    """
    weights = {name: config["stage"][name] for name in WEIGHTS}
    criterion = ConditioningLoss(**weights, readout=readout, class_weights=class_weights, token_weights=token_weights)
    if criterion.inverse_weight and autoencoder is not None:
        names = config["tokenizer"]["name"], config["maskige"]["inverse"]["name"]
        check_inverse_learns(autoencoder, *names, f"stage.inverse_weight={criterion.inverse_weight}")
    return criterion


def build_target_encoder(
    stage: Mapping[str, Any], autoencoder: MaskigeAutoencoder | None, codes: Tensor | None
) -> TargetEncoder:
    """The target encoder that the group stage of a configuration describes.

    Args:
        stage: plain data.
        autoencoder: of the training; None for the pixel twin, which has no posterior.
        codes: (V, K, stride, stride) float32, what `asked_codes` gives.

    Raises:
        ValueError: for a posterior or a policy that does not exist, or a setting out of range.
    """
    posterior = None if autoencoder is None else build_posterior(**stage["posterior"], codes=codes)
    return TargetEncoder(posterior, stage["ignore_policy"], stage["fill_warmup"])


def asked_codes(config: Mapping[str, Any], autoencoder: MaskigeAutoencoder | None) -> Tensor | None:
    """What each token decodes to, (V, K, stride, stride) float32, if losses or targets ask for it.

    A large decoder takes long for it, so it is decoded once; a tied head for which nobody did decodes by itself.
    """
    stage = config["stage"]
    asked = stage["class_balance"] or stage["posterior"]["name"] == "smoothed"
    return autoencoder.code_class_probs() if asked and autoencoder is not None else None


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
