"""stage=conditioning: latent prior learning, the paper's stage II: min KL(q(z | c) || p(z | x))."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric

from gss.assembly.checkpoints import conditioned_on
from gss.display import PanelRow
from gss.inference import Inference
from gss.inference.policy import resized
from gss.labels import LabelSpace
from gss.metrics.scoreboard import ReadoutTally, Scoreboard, Tally
from gss.networks.conditioning import ConditioningOutput
from gss.objectives.conditioning import ConditioningLoss, check_passes_gradients
from gss.objectives.targets import TargetEncoder, TokenTargets
from gss.pipeline import PIXEL_READOUT, GenerativeSegmenter
from gss.stages.base import Batch, Stage
from gss.stages.optimisation import Optimisation


class ConditioningStage(Stage):
    """Brings p(z | image) to the frozen q(z | labels), beside the auxiliary pixel loss.

    For the pixel twin, which has no tokens, the pixel loss is all there is. With an `inverse_weight` X^-1 learns beside
    the network to read what it generates: the paper's FT-W in the same run. The network learns as it would without.

    Args:
        segmenter: conditioning network and autoencoder, which is frozen but perhaps for its inverse, or the pixel twin.
        label_space: the classes.
        optimisation: optimiser and schedule.
        record: plain data for the checkpoint.
        readout: the readout that `val/miou` reports: expected, argmax or pixel.
        criterion: what is minimised; None where nothing is trained.
        target_encoder: what labels say of tokens; None: one token per cell, ignored pixels as in the release.
        thorough: whether validation also measures boundary IoU, calibration, likelihood and the detection of errors.
        inference: how the network is shown images in validation; None: as they are served, whole.

    Raises:
        ValueError: if the segmenter does not have the readout, or a loss could teach nothing.
    """

    stage_name, may_learn = "conditioning", ("segmenter.network", "segmenter.autoencoder.inverse")

    def __init__(
        self,
        segmenter: GenerativeSegmenter,
        label_space: LabelSpace,
        optimisation: Optimisation | None,
        record: Mapping[str, Any],
        readout: str = "expected",
        criterion: ConditioningLoss | None = None,
        target_encoder: TargetEncoder | None = None,
        thorough: bool = False,
        inference: Inference | None = None,
    ) -> None:
        segmenter.check_readout(readout)
        super().__init__(label_space, optimisation, record, scored=(*segmenter.readouts, "ceiling"))
        self.segmenter, self.readout, self.thorough = segmenter, readout, thorough
        self.criterion, self.target_encoder = criterion, target_encoder or TargetEncoder()
        self.inference = inference or Inference((0, 0), segmenter.network.stride, scale="native")
        self._began_with: dict[str, Any] | None = None
        if criterion is not None and criterion.inverse_weight:
            self._begin_inverse(criterion.inverse_weight)
        if criterion is not None and criterion.label_weight and segmenter.autoencoder is not None:
            check_passes_gradients(segmenter.autoencoder)
        self.token_accuracy, self.outside_vocabulary = MeanMetric(), MeanMetric()

    @property
    def palette(self) -> Tensor | None:
        """The maskige colours (K, 3) float32 in [0, 1]; None for the pixel twin."""
        return None if self.segmenter.autoencoder is None else self.segmenter.autoencoder.transform.colours

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Network, targets, criterion, log; gives the loss, a scalar float32."""
        assert self.criterion is not None
        output = self.segmenter.network(batch["image"])
        targets = self.targets(batch["labels"], output)
        losses: dict[str, Tensor] = self.criterion(self.segmenter.autoencoder, output, targets, batch["labels"])
        loss = losses.pop("train/loss")
        self.log("train/loss", loss, prog_bar=True)
        self.log_dict(losses)
        return loss

    def targets(self, labels: Tensor, output: ConditioningOutput) -> TokenTargets | None:
        """What the output's tokens shall be for labels (B, H, W) int64; None for the pixel twin."""
        autoencoder = self.segmenter.autoencoder
        if autoencoder is None:
            return None
        targets: TokenTargets = self.target_encoder(autoencoder, labels, output.pixel_logits, self.global_step)
        return targets

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips the inverse apart from the network, whose step must not depend on it: each has a norm of its own."""
        if not self.segmenter.learns_inverse:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val:
            assert self.segmenter.autoencoder is not None
            inverse = {id(weight) for weight in self.segmenter.autoencoder.inverse.parameters()}
            moved = [weight for group in optimizer.param_groups for weight in group["params"]]
            for belongs in (True, False):
                weights = [weight for weight in moved if (id(weight) in inverse) == belongs]
                nn.utils.clip_grad_norm_(weights, gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the inverse that the network began with, of which a tied head was built, where it has moved on."""
        super().on_save_checkpoint(checkpoint)
        if self._began_with is not None:
            checkpoint["conditioned_on"] = self._began_with

    def new_tallies(self, conditions: Sequence[str]) -> dict[str, Tally]:
        """The ceiling's labels, and the class probabilities of each readout."""
        names = self.label_space.names
        readouts = {readout: ReadoutTally(names, conditions, self.thorough) for readout in self.segmenter.readouts}
        return {**super().new_tallies(conditions), **readouts}

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Scores every readout, and for generation the ceiling and, where they can be compared, the tokens."""
        board, labels, conditions = self.boards[dataloader_idx], batch["labels"], batch["condition"]
        compares = self._compares_tokens and dataloader_idx == 0

        def segment(shown: Tensor) -> Iterator[tuple[str, Tensor]]:
            """class_probs (N, K, h, w) float32 by readout of views (N, 3, h, w) float32 in [0, 1]."""
            output = self.segmenter.network(shown)
            if compares:
                self._score_tokens(output, resized(labels, output.size))
            return self.segmenter.read_each(output, self.segmenter.readouts)

        board.update_bands(self.inference.bands(segment, batch["image"]), labels, conditions)
        if (autoencoder := self.segmenter.autoencoder) is not None:
            reconstructed = self.inference.reconstructed(
                lambda seen: autoencoder.reconstruct(seen).class_probs(), labels
            )
            board.tally("ceiling").update(reconstructed, labels, conditions)

    @property
    def _compares_tokens(self) -> bool:
        """Whether the network's tokens have true ones beside them: those of windows overlap, of views differ."""
        return self.inference.sees_whole and self.segmenter.autoencoder is not None

    def _score_tokens(self, output: ConditioningOutput, labels: Tensor) -> None:
        """Compares the likeliest tokens with those of labels (B, H, W) int64 of the size that the network saw."""
        assert output.prior is not None
        targets = self.targets(labels, output)
        assert targets is not None
        right = output.prior.likeliest() == targets.tokens
        self.token_accuracy.update(right[targets.token_valid])
        if output.prior.vocabulary is not None:
            own = output.prior.vocabulary.has_row(targets.tokens[targets.token_valid])
            self.outside_vocabulary.update((~own).float())

    def on_validation_epoch_end(self) -> None:
        """Logs every readout's figures, the main readout's classes and conditions, and the ceiling beside them."""
        mious = [self._log_board(board, prefix) for prefix, board in self.prefixes().items()]
        self.log_harmonic_mean(mious)
        if self._compares_tokens:
            self.log("val/token_accuracy", self.token_accuracy)
            head = self.segmenter.network.token_head
            if head is not None and head.vocabulary is not None:
                self.log("val/outside_vocabulary", self.outside_vocabulary)

    def _log_board(self, board: Scoreboard, prefix: str) -> float:
        """Logs the figures of one data set, and gives the mIoU of the main readout."""
        for readout in self.segmenter.readouts:
            self.log_scores(board.readout(readout), f"{prefix}/{readout}")
        if self.segmenter.autoencoder is not None:
            self.log_figure(f"{prefix}/ceiling", self.log_scores(board.tally("ceiling"), f"{prefix}/reconstruction"))
        return self.log_scores(board.readout(self.readout), prefix, in_detail=True)

    def panel_rows(self, batch: Batch, limit: int) -> list[PanelRow]:
        """What the main readout makes of the first `limit` images, or of a window in the middle of each."""
        image, labels = (self.inference.glance(batch[key][:limit]) for key in ("image", "labels"))
        result = self.segmenter(image, self.readout)
        autoencoder, nothing = self.segmenter.autoencoder, [None] * len(image)
        painted = nothing if autoencoder is None else autoencoder.transform.paint(labels)
        generated = result.maskige()
        shown = nothing if generated is None else generated
        columns = (batch["name"], image, labels, painted, shown, result.labels(), result.class_probs())
        return [PanelRow(*row) for row in zip(*columns, strict=False)]

    def _begin_inverse(self, weight: float) -> None:
        """Frees the inverse, which is to learn by a loss of this weight, and remembers how it was."""
        if self.readout == PIXEL_READOUT:
            raise ValueError(
                f"stage.inverse_weight={weight} trains the inverse on generated maskiges, and "
                "stage.readout=pixel or a head without tokens makes none: choose stage.readout=expected and head=tied"
            )
        assert self.segmenter.autoencoder is not None
        begun = {name: tensor.clone() for name, tensor in self.segmenter.autoencoder.inverse.state_dict().items()}
        self._began_with = conditioned_on(self.record["prior"], begun)
        self.segmenter.learn_inverse()
