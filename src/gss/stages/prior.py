"""stage=prior: latent posterior learning, the paper's stage I: E_q |D(z) - X(c)|^2, a reconstruction of the maskige."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gss.artefact import PriorArtefact
from gss.boundaries import BoundaryFScore
from gss.labels import LabelSpace
from gss.losses import reconstruction_loss
from gss.metrics import TokenCounts, codebook_perplexity, codebook_usage
from gss.panels import PanelRow
from gss.pipeline import MaskigeAutoencoder
from gss.progress import track
from gss.stages.base import Batch, Stage
from gss.stages.effort import Effort
from gss.stages.optimisation import Optimisation
from gss.targets import token_valid
from gss.third_class import ThirdClassRate


class PriorStage(Stage):
    """Trains a learned tokenizer on maskiges and measures the ceiling of any tokenizer.

    A training-free tokenizer has no parameter to optimise: it is fitted before, and this module only validates it.

    Args:
        autoencoder: maskige transform, tokenizer and inverse.
        label_space: the classes.
        optimisation: optimiser and schedule of a learned tokenizer; None measures a finished one, which is neither
            fitted nor trained again.
        record: plain data for the checkpoint; `prior` is the artefact's description.
        commitment_weight: of the quantizer's own loss beside the reconstruction.
    """

    stage_name = "prior"
    token_counts: TokenCounts

    def __init__(
        self,
        autoencoder: MaskigeAutoencoder,
        label_space: LabelSpace,
        optimisation: Optimisation | None,
        record: Mapping[str, Any],
        commitment_weight: float = 0.25,
    ) -> None:
        super().__init__(label_space, optimisation, record, scored=("ceiling",))
        self.autoencoder = autoencoder
        self.third_class, self.boundary = ThirdClassRate(), BoundaryFScore(label_space.num_classes)
        self.effort = Effort()
        self.commitment_weight = commitment_weight

    def setup(self, stage: str) -> None:
        """Fits a training-free tokenizer to the training labels, once, and shares it with all processes.

        Only then the size of its vocabulary is known, and with it the number of tokens to count.
        """
        super().setup(stage)
        if self.optimisation is not None and not self.autoencoder.tokenizer.trainable:
            with self.effort.timed():
                if self.trainer.is_global_zero:
                    self._fit_tokenizer()
                self.autoencoder.tokenizer = self.trainer.strategy.broadcast(self.autoencoder.tokenizer)
        self.token_counts = TokenCounts(self.autoencoder.tokenizer.vocab_size)

    @property
    def palette(self) -> Tensor:
        """The maskige colours (K, 3) float32 in [0, 1]."""
        return self.autoencoder.transform.colours.detach()

    @torch.no_grad()
    def _fit_tokenizer(self) -> None:
        transform, datamodule = self.autoencoder.transform, self.trainer.datamodule  # type: ignore[attr-defined]
        batches = (self.autoencoder.paint(labels) for labels in datamodule.label_batches("train"))
        maskiges = track(batches, "stage=prior painting training labels", unit="batches")
        self.autoencoder.tokenizer.fit(maskiges, transform.colours, transform.ignore_colour)

    def on_train_start(self) -> None:
        """Counts what the optimiser is about to move."""
        self.effort.count(self.trainer.optimizers)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Reconstruction of the maskige (B, 3, H, W) of the batch plus the quantizer's commitment: a scalar float32."""
        maskige = self.autoencoder.paint(batch["labels"]).detach()  # learned colours would run together
        result = self.autoencoder.tokenizer.reconstruct(maskige)
        reconstruction = reconstruction_loss(result.maskige, maskige)
        loss = reconstruction + self.commitment_weight * result.commitment
        self.log_dict({"train/loss": loss, "train/reconstruction": reconstruction}, prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Empties all counts."""
        super().on_validation_epoch_start()
        self.third_class.reset()
        self.boundary.reset()
        self.token_counts.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Labels (B, H, W) int64 through tokens and back, against the labels; tokens without labels do not count.

        Gives the reconstructed labels (B, H, W) int64 in [0, K), for callbacks that look at single pictures.
        """
        labels = batch["labels"]
        tokens = self.autoencoder.encode(labels)
        predicted = self.autoencoder.decode(tokens, (labels.shape[-2], labels.shape[-1])).labels
        self.token_counts.update(tokens, token_valid(labels, self.autoencoder.stride))
        self.confusion("ceiling").update(predicted, labels)
        self.third_class.update(predicted, labels)
        self.boundary.update(predicted, labels)
        return predicted

    def on_validation_epoch_end(self) -> None:
        """Logs the ceiling, how boundaries fare, and how much of the codebook was used."""
        self.log("val/third_class_rate", self.third_class.compute())
        self.log("val/boundary_f3", self.boundary.mean())
        self.log("val/ceiling", self.log_scores("ceiling", "val", per_class=True), prog_bar=True)
        counts = self.token_counts.compute()
        self.log("val/codebook_usage", codebook_usage(counts))
        self.log("val/codebook_perplexity", codebook_perplexity(counts))

    def panel_rows(self, batch: Batch, limit: int) -> list[PanelRow]:
        """Rows that show the reconstruction of the first `limit` label maps, (H, W) each."""
        labels = batch["labels"][:limit]
        maskige, result = self.autoencoder.transform.paint(labels), self.autoencoder.reconstruct(labels)
        assert result.maskige is not None
        return [
            PanelRow(*row)
            for row in zip(
                batch["name"],
                batch["image"],
                labels,
                maskige,
                result.maskige,
                result.labels,
                result.class_probs,
                strict=False,
            )
        ]

    def artefact(self, figures: Mapping[str, float]) -> PriorArtefact:
        """What stage two needs, with the ceiling and the boundary F-score of the measured figures, in [0, 1]."""
        description = {**self.record["prior"], "data_settings": self.record["config"]["data"]}
        ceiling, boundary_f3 = (figures[f"val/{name}"] for name in ("ceiling", "boundary_f3"))
        return PriorArtefact(description, ceiling, self.autoencoder.state_dict(), boundary_f3)
