"""stage=conditioning: latent prior learning, the paper's stage II: min KL(q(z | c) || p(z | x))."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torchmetrics import MeanMetric

from gss.divergence import token_divergence
from gss.labels import LabelSpace
from gss.losses import pixel_loss
from gss.networks.conditioning import ConditioningOutput
from gss.panels import PanelRow
from gss.pipeline import GenerativeSegmenter, MaskigeAutoencoder
from gss.stages.base import Batch, Stage
from gss.stages.optimisation import Optimisation
from gss.targets import TokenTargets, token_targets


class ConditioningStage(Stage):
    """Brings p(z | image) to the frozen q(z | labels), beside the auxiliary pixel loss.

    For the pixel twin, which has no tokens, the pixel loss is all there is.

    Args:
        segmenter: conditioning network and frozen autoencoder, or the pixel twin.
        label_space: the classes.
        optimisation: optimiser and schedule.
        record: plain data for the checkpoint.
        readout: the readout that `val/miou` reports: expected, argmax or pixel.
        ignore_policy: what ignored pixels are painted as: filled (the paper) or masked.
        token_weight: of the token divergence (0.8 in the released code).
        pixel_weight: of the pixel loss (0.2).
        class_weights: (K,) float32, what a pixel of each class counts; None: all the same.
        token_weights: (V,) float32, what a cell of each token counts; None: all the same.

    Raises:
        ValueError: if the segmenter does not have the readout.
    """

    stage_name, may_learn = "conditioning", ("segmenter.network", "segmenter.autoencoder.inverse")
    class_weights: Tensor | None
    token_weights: Tensor | None

    def __init__(
        self,
        segmenter: GenerativeSegmenter,
        label_space: LabelSpace,
        optimisation: Optimisation | None,
        record: Mapping[str, Any],
        readout: str = "expected",
        ignore_policy: str = "filled",
        token_weight: float = 0.8,
        pixel_weight: float = 0.2,
        class_weights: Tensor | None = None,
        token_weights: Tensor | None = None,
    ) -> None:
        segmenter.check_readout(readout)
        super().__init__(label_space, optimisation, record, scored=(*segmenter.readouts, "ceiling"))
        self.segmenter, self.readout, self.ignore_policy = segmenter, readout, ignore_policy
        self.token_weight, self.pixel_weight = token_weight, pixel_weight
        self.token_accuracy, self.outside_vocabulary = MeanMetric(), MeanMetric()
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.register_buffer("token_weights", token_weights, persistent=False)

    @property
    def palette(self) -> Tensor | None:
        """The maskige colours (K, 3) float32 in [0, 1]; None for the pixel twin."""
        return None if self.segmenter.autoencoder is None else self.segmenter.autoencoder.transform.colours

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """token_weight * divergence + pixel_weight * pixel loss; the pixel loss alone for the pixel twin."""
        output, labels = self.segmenter.network(batch["image"]), batch["labels"]
        pixels = pixel_loss(output.pixel_logits, labels, self.class_weights)
        if self.segmenter.autoencoder is None:
            self.log_dict({"train/loss": pixels, "train/pixel_loss": pixels}, prog_bar=True)
            return pixels
        targets = self._targets(labels, output, self.segmenter.autoencoder)
        divergence = token_divergence(output.prior, targets, self.token_weights)
        loss = self.token_weight * divergence + self.pixel_weight * pixels
        self.log("train/loss", loss, prog_bar=True)
        self.log_dict({"train/token_divergence": divergence, "train/pixel_loss": pixels})
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Scores every readout, and for generation the ceiling and the share of tokens that are right."""
        output, labels = self.segmenter.network(batch["image"]), batch["labels"]
        for readout in self.segmenter.readouts:
            self.confusion(readout).update(self.segmenter.generate(output, readout).labels, labels)
        if self.segmenter.autoencoder is not None:
            self.confusion("ceiling").update(self.segmenter.autoencoder.reconstruct(labels).labels, labels)
            targets = self._targets(labels, output, self.segmenter.autoencoder)
            right = output.prior.likeliest() == targets.tokens
            self.token_accuracy.update(right[targets.token_valid])
            if output.prior.vocabulary is not None:
                own = output.prior.vocabulary.has_row(targets.tokens[targets.token_valid])
                self.outside_vocabulary.update((~own).float())

    def on_validation_epoch_end(self) -> None:
        """Logs every readout's mIoU, the main readout's classes, and the ceiling beside them."""
        for readout in self.segmenter.readouts:
            self.log_scores(readout, f"val/{readout}", per_class=False)
        self.log_scores(self.readout, "val", per_class=True)
        if self.segmenter.autoencoder is not None:
            self.log_scores("ceiling", "val/reconstruction", per_class=False)
            self.log("val/ceiling", self.trainer.callback_metrics["val/reconstruction/miou"])
            self.log("val/token_accuracy", self.token_accuracy)
            head = self.segmenter.network.token_head
            if head is not None and head.vocabulary is not None:
                self.log("val/outside_vocabulary", self.outside_vocabulary)

    def panel_rows(self, batch: Batch, limit: int) -> list[PanelRow]:
        """Rows that show what the main readout makes of the first `limit` photographs."""
        image, labels = batch["image"][:limit], batch["labels"][:limit]
        result = self.segmenter(image, self.readout)
        autoencoder, nothing = self.segmenter.autoencoder, [None] * len(image)
        painted = nothing if autoencoder is None else autoencoder.transform.paint(labels)
        generated = nothing if result.maskige is None else result.maskige
        columns = (batch["name"], image, labels, painted, generated, result.labels, result.class_probs)
        return [PanelRow(*row) for row in zip(*columns, strict=False)]

    def _targets(self, labels: Tensor, output: ConditioningOutput, autoencoder: MaskigeAutoencoder) -> TokenTargets:
        return token_targets(labels, output.pixel_logits, self.ignore_policy, autoencoder.encode, autoencoder.stride)
