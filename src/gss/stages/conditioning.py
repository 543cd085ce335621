"""stage=conditioning: latent prior learning, the paper's stage II: min KL(q(z | c) || p(z | x))."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric

from gss.boundaries import BoundaryFScore
from gss.inference import Inference
from gss.inference.sizes import resized
from gss.inverse_exchange import conditioned_on
from gss.label_loss import check_passes_gradients
from gss.labels import LabelSpace
from gss.networks.conditioning import ConditioningOutput
from gss.panels import PanelRow
from gss.pipeline import PIXEL_READOUT, GenerativeSegmenter
from gss.posteriors import OneHotPosterior, Posterior
from gss.stages.base import Batch, Stage
from gss.stages.clipping import clip_apart
from gss.stages.objective import Objective
from gss.stages.optimisation import Optimisation
from gss.targets import IgnorePolicy, Spread, TokenTargets, token_targets


class ConditioningStage(Stage):
    """Brings p(z | image) to the frozen q(z | labels), beside the auxiliary pixel loss.

    For the pixel twin, which has no tokens, the pixel loss is all there is. With an `inverse_weight` X^-1 learns beside
    the network to read what it generates: the paper's FT-W in the same run. The network learns as it would without.

    Args:
        segmenter: conditioning network and autoencoder, which is frozen but perhaps for its inverse, or the pixel twin.
        label_space: the classes.
        optimisation: optimiser and schedule.
        record: plain data for the checkpoint.
        readout: the readout that `val/miou` reports, and by which the inverse's maskiges are drawn: expected, argmax
            or pixel.
        objective: the weights of the losses.
        ignore_policy: what ignored pixels are painted as, and which cells count.
        posterior: what labels say of tokens; None: one-hot.
        class_weights: (K,) float32, what a pixel of each class counts; None: all the same.
        token_weights: (V,) float32, what a cell of each token counts; None: all the same.
        inference: how the network is shown photographs in validation; None: as they are served, whole.

    Raises:
        ValueError: if the segmenter does not have the readout, or a loss could teach nothing.
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
        objective: Objective | None = None,
        ignore_policy: IgnorePolicy | None = None,
        posterior: Posterior | None = None,
        class_weights: Tensor | None = None,
        token_weights: Tensor | None = None,
        inference: Inference | None = None,
    ) -> None:
        segmenter.check_readout(readout)
        super().__init__(label_space, optimisation, record, scored=(*segmenter.readouts, "ceiling"))
        num_classes = label_space.num_classes
        self._boundary = nn.ModuleDict({readout: BoundaryFScore(num_classes) for readout in segmenter.readouts})
        self.segmenter, self.readout = segmenter, readout
        self.objective, self.ignore_policy = objective or Objective(), ignore_policy or IgnorePolicy()
        self.posterior = posterior or OneHotPosterior()
        self.inference = inference or Inference((0, 0), segmenter.network.stride, scale="native")
        self._begin_inverse()
        if self.objective.label_weight and segmenter.autoencoder is not None:
            check_passes_gradients(segmenter.autoencoder)
        self.token_accuracy, self.outside_vocabulary = MeanMetric(), MeanMetric()
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.register_buffer("token_weights", token_weights, persistent=False)

    @property
    def palette(self) -> Tensor | None:
        """The maskige colours (K, 3) float32 in [0, 1]; None for the pixel twin."""
        return None if self.segmenter.autoencoder is None else self.segmenter.autoencoder.transform.colours

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The objective's weighted sum, a scalar float32."""
        output, labels = self.segmenter.network(batch["image"]), batch["labels"]
        targets = None if self.segmenter.autoencoder is None else self._targets(labels, output)
        weights = (self.class_weights, self.token_weights)
        losses = self.objective.losses(self.segmenter, output, labels, targets, self.readout, *weights)
        loss = losses.pop("train/loss")
        self.log("train/loss", loss, prog_bar=True)
        self.log_dict(losses)
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the inverse apart from the network, whose step must not depend on it."""
        if not self.segmenter.learns_inverse:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val:
            assert self.segmenter.autoencoder is not None
            clip_apart(optimizer, self.segmenter.autoencoder.inverse, gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the inverse that the network began with, of which a tied head was built, where it has moved on."""
        super().on_save_checkpoint(checkpoint)
        if self._began_with is not None:
            checkpoint["conditioned_on"] = self._began_with

    def boundary(self, readout: str) -> BoundaryFScore:
        """How well the outlines of a readout's classes are met."""
        measure = self._boundary[readout]
        assert isinstance(measure, BoundaryFScore)
        return measure

    def on_validation_epoch_start(self) -> None:
        """Empties what is counted over an epoch."""
        super().on_validation_epoch_start()
        for readout in self.segmenter.readouts:
            self.boundary(readout).reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Scores every readout, and for generation the ceiling and, of whole photographs, the share of tokens right."""
        image, labels = batch["image"], batch["labels"]

        def segment(shown: Tensor) -> Iterator[tuple[str, Tensor]]:
            """class_probs (N, K, h, w) float32 by readout of views (N, 3, h, w) float32 in [0, 1]."""
            output = self.segmenter.network(shown)
            if self.inference.sees_whole and self.segmenter.autoencoder is not None:
                self._count_tokens(output, resized(labels, output.size))
            return self.segmenter.read_each(output, self.segmenter.readouts)

        def reconstruct(shown: Tensor) -> Iterator[tuple[str, Tensor]]:
            """class_probs (N, K, h, w) float32 of labels (N, h, w) int64 after their way through tokens."""
            assert self.segmenter.autoencoder is not None
            yield "ceiling", self.segmenter.autoencoder.reconstruct(shown).class_probs

        for readout, predicted in self.inference.labels(segment, image).items():
            self.confusion(readout).update(predicted, labels)
            self.boundary(readout).update(predicted, labels)
        if self.segmenter.autoencoder is not None:
            self.confusion("ceiling").update(self.inference.reconstructed(reconstruct, labels), labels)

    def on_validation_epoch_end(self) -> None:
        """Logs every readout's mIoU and boundary F-score, the main readout's classes, and the ceiling beside them."""
        outlines = {readout: self.boundary(readout).mean() for readout in self.segmenter.readouts}
        for readout, boundary_f3 in outlines.items():
            self.log_scores(readout, f"val/{readout}", per_class=False)
            self.log(f"val/{readout}/boundary_f3", boundary_f3)
        self.log_scores(self.readout, "val", per_class=True)
        self.log("val/boundary_f3", outlines[self.readout])
        if self.segmenter.autoencoder is not None:
            self.log_scores("ceiling", "val/reconstruction", per_class=False)
            self.log("val/ceiling", self.trainer.callback_metrics["val/reconstruction/miou"])
            if self.inference.sees_whole:
                self._log_tokens()

    def panel_rows(self, batch: Batch, limit: int) -> list[PanelRow]:
        """What the main readout makes of the first `limit` photographs, or of a window in the middle of each."""
        image, labels = (self.inference.glance(batch[key][:limit]) for key in ("image", "labels"))
        result = self.segmenter(image, self.readout)
        autoencoder, nothing = self.segmenter.autoencoder, [None] * len(image)
        painted = nothing if autoencoder is None else autoencoder.transform.paint(labels)
        generated = nothing if result.maskige is None else result.maskige
        columns = (batch["name"], image, labels, painted, generated, result.labels, result.class_probs)
        return [PanelRow(*row) for row in zip(*columns, strict=False)]

    def _count_tokens(self, output: ConditioningOutput, labels: Tensor) -> None:
        """Compares the likeliest tokens with those of labels (B, H, W) int64 of the size that the network saw."""
        assert output.prior is not None
        targets = self._targets(labels, output)
        right = output.prior.likeliest() == targets.tokens
        self.token_accuracy.update(right[targets.token_valid])
        if output.prior.vocabulary is not None:
            own = output.prior.vocabulary.has_row(targets.tokens[targets.token_valid])
            self.outside_vocabulary.update((~own).float())

    def _log_tokens(self) -> None:
        self.log("val/token_accuracy", self.token_accuracy)
        head = self.segmenter.network.token_head
        if head is not None and head.vocabulary is not None:
            self.log("val/outside_vocabulary", self.outside_vocabulary)

    def _targets(self, labels: Tensor, output: ConditioningOutput) -> TokenTargets:
        autoencoder, policy = self.segmenter.autoencoder, self.ignore_policy.at(self.global_step)
        assert autoencoder is not None

        def encode(painted: Tensor) -> Tensor | Spread:
            """The posterior of labels (B, H, W) int64."""
            encoded: Tensor | Spread = self.posterior(autoencoder.tokenizer, autoencoder.paint(painted))
            return encoded

        return token_targets(labels, output.pixel_logits, policy, encode, autoencoder.stride)

    def _begin_inverse(self) -> None:
        """Frees the inverse if it is to learn, and remembers how it was."""
        self._began_with: dict[str, Any] | None = None
        if not self.objective.inverse_weight:
            return
        if self.readout == PIXEL_READOUT:
            raise ValueError(
                f"stage.inverse_weight={self.objective.inverse_weight} trains the inverse on generated maskiges, and "
                "stage.readout=pixel or a head without tokens makes none: choose stage.readout=expected and head=tied"
            )
        assert self.segmenter.autoencoder is not None
        begun = {name: tensor.clone() for name, tensor in self.segmenter.autoencoder.inverse.state_dict().items()}
        self._began_with = conditioned_on(self.record["prior"], begun)
        self.segmenter.learn_inverse()
