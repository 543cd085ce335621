"""What stage=conditioning minimises: a weighted sum, of which every part has its own log key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from gss.networks.conditioning import ConditioningOutput
from gss.networks.token_scores import TokenScores
from gss.objectives.divergence import focal_divergence
from gss.objectives.losses import label_loss, pixel_loss
from gss.objectives.targets import IgnorePolicy, TokenTargets, build_posterior
from gss.objectives.transforms import check_inverse_learns, reading_loss
from gss.pipeline import GenerativeSegmenter, MaskigeAutoencoder
from gss.tokenizer.base import Decoded


@dataclass(frozen=True)
class Objective:
    """The weights of the losses; a part of weight 0 is left out, and the first two have the released ones.

    Args:
        token_weight: of the token divergence.
        pixel_weight: of the pixel loss.
        label_weight: of the label loss, which reads the expected decoding.
        inverse_weight: of the reading loss of X^-1, by which the inverse alone learns.
        focal: gamma, by which cells that are right already count less in the divergence that is minimised.

    Raises:
        ValueError: if one of them is negative.
    """

    token_weight: float = 0.8
    pixel_weight: float = 0.2
    label_weight: float = 0.0
    inverse_weight: float = 0.0
    focal: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise ValueError(f"stage.{field.name}={getattr(self, field.name)} must not be negative")

    def losses(
        self,
        segmenter: GenerativeSegmenter,
        output: ConditioningOutput,
        labels: Tensor,
        targets: TokenTargets | None,
        readout: str,
        class_weights: Tensor | None = None,
        token_weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Scalars float32 by log key: `train/loss`, which is their weighted sum, and each part of it.

        `train/token_divergence` is the divergence itself, whatever `focal` makes of it in the sum. For the pixel twin
        the pixel loss is all there is.

        Args:
            segmenter: that gave the output.
            output: of a batch of images.
            labels: (B, H, W) int64 in [0, K) or 255.
            targets: what its tokens shall be; None for the pixel twin.
            readout: expected or argmax, how the maskiges are drawn that the inverse learns to read.
            class_weights: (K,) float32, what a pixel of each class counts; None: all the same.
            token_weights: (V,) float32, what a cell of each token counts; None: all the same.
        """
        pixels = pixel_loss(output.pixel_logits, labels, class_weights)
        autoencoder = segmenter.autoencoder
        if autoencoder is None:
            return {"train/loss": pixels, "train/pixel_loss": pixels}
        assert output.prior is not None
        assert targets is not None
        minimised, divergence = focal_divergence(output.prior, targets, token_weights, self.focal)
        loss = self.token_weight * minimised + self.pixel_weight * pixels
        parts = {"train/token_divergence": divergence, "train/pixel_loss": pixels}
        decoded = autoencoder.decode_scores(output.prior, "expected") if self.label_weight else None
        if decoded is not None:
            parts["train/label_loss"] = label_loss(autoencoder, decoded, labels, class_weights)
            loss = loss + self.label_weight * parts["train/label_loss"]
        if self.inverse_weight:
            maskige = _drawn(autoencoder, output.prior, readout, decoded)
            parts["train/reading"] = reading_loss(autoencoder, maskige, labels, class_weights)
            loss = loss + self.inverse_weight * parts["train/reading"]
        return {"train/loss": loss, **parts}


@torch.no_grad()
def _drawn(autoencoder: MaskigeAutoencoder, prior: TokenScores, readout: str, expected: Decoded | None) -> Tensor:
    """The maskige (B, 3, H', W') float32 that a readout draws, without its graph, and drawn only once."""
    if expected is not None and readout == "expected":
        return expected.maskige.detach()
    return autoencoder.decode_scores(prior, readout).maskige


# FOLDED From the group stage of a configuration to what `ConditioningStage` is told of targets and losses.


def training_settings(
    config: Mapping[str, Any], autoencoder: MaskigeAutoencoder | None, codes: Tensor | None = None
) -> dict[str, Any]:
    """Objective, ignore policy and posterior, as arguments by name.

    Args:
        config: plain data with the groups stage, maskige and tokenizer.
        autoencoder: of the training; None for the pixel twin, which has no posterior.
        codes: (V, K, stride, stride) float32, what `asked_codes` gives.

    Raises:
        ValueError: for a setting that does not exist or is out of range, or an inverse that cannot learn.
    """
    stage = config["stage"]
    objective = Objective(**{field.name: stage[field.name] for field in fields(Objective)})
    if objective.inverse_weight and autoencoder is not None:
        names = config["tokenizer"]["name"], config["maskige"]["inverse"]["name"]
        check_inverse_learns(autoencoder, *names, f"stage.inverse_weight={objective.inverse_weight}")
    return {
        "objective": objective,
        "ignore_policy": IgnorePolicy(stage["ignore_policy"], stage["fill_warmup"]),
        "posterior": None if autoencoder is None else build_posterior(**stage["posterior"], codes=codes),
    }


def asked_codes(config: Mapping[str, Any], autoencoder: MaskigeAutoencoder | None) -> Tensor | None:
    """What each token decodes to, (V, K, stride, stride) float32, if losses or targets ask for it.

    A large decoder takes long for it, so it is decoded once; a tied head for which nobody did decodes by itself.
    """
    stage = config["stage"]
    asked = stage["class_balance"] or stage["posterior"]["name"] == "smoothed"
    return autoencoder.code_class_probs() if asked and autoencoder is not None else None
