"""stage=prior: latent posterior learning, the paper's stage I: the tokenizer, then what paints and reads colours."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gss.assembly.artefact import PriorArtefact
from gss.display import PanelRow
from gss.display.progress import track
from gss.labels import LabelSpace
from gss.metrics.boundaries import BoundaryFScore
from gss.metrics.confusion import TokenCounts, codebook_perplexity, codebook_usage
from gss.metrics.phantom_classes import PhantomClassRate
from gss.metrics.scoreboard import Scoreboard
from gss.objectives.targets import token_valid
from gss.pipeline import MaskigeAutoencoder
from gss.stages.base import Batch, Stage
from gss.stages.optimisation import Optimisation
from gss.stages.phases import Phase


class PriorStage(Stage):
    """Trains what its phase says, and measures the ceiling that it allows.

    A tokenizer that needs a fit gets it before anything is trained or measured.

    Args:
        autoencoder: maskige transform, tokenizer and inverse.
        label_space: the classes.
        optimisation: optimiser and schedule of the phase; None measures a finished stage one.
        record: plain data for the checkpoint; `prior` is the artefact's description.
        phase: what is trained; all else is frozen and stays in evaluation mode. None: nothing is.
        fits_tokenizer: whether a tokenizer that needs a fit has yet to get it.
        cost: to which the cost is added; None: begins at nothing.
    """

    stage_name = "prior"
    may_learn = ("autoencoder.transform", "autoencoder.tokenizer", "autoencoder.inverse")
    token_counts: TokenCounts

    def __init__(
        self,
        autoencoder: MaskigeAutoencoder,
        label_space: LabelSpace,
        optimisation: Optimisation | None,
        record: Mapping[str, Any],
        phase: Phase | None = None,
        fits_tokenizer: bool = False,
        cost: TrainingCost | None = None,
    ) -> None:
        generates = phase is not None and phase.generates
        scored = ("ceiling", "generated") if generates else ("ceiling",)
        super().__init__(label_space, optimisation, {"phase": phase and phase.name, **record}, scored)
        self.autoencoder, self.phase, self.generates = autoencoder, phase, generates
        self.fits_tokenizer = fits_tokenizer and autoencoder.tokenizer.fitted
        self.phantom_classes, self.boundary = PhantomClassRate(), BoundaryFScore(label_space.num_classes)
        self.cost = cost or TrainingCost()
        if phase is not None:
            self.steps_key = phase.steps_key
            for part in phase.trained(autoencoder):
                part.requires_grad_(True)
            for part in phase.frozen(autoencoder):
                part.requires_grad_(False)
        self.train()  # Lightning keeps the modes that it finds

    def train(self, mode: bool = True) -> PriorStage:
        """Switches the mode of what is trained; frozen parts keep their running statistics."""
        super().train(mode)
        for part in [self.autoencoder] if self.phase is None else self.phase.frozen(self.autoencoder):
            part.eval()
        return self

    def setup(self, stage: str) -> None:
        """Fits a tokenizer that needs it to the training labels, once, and shares it with all processes.

        Only then the size of its vocabulary is known, and with it the number of tokens to count.
        """
        super().setup(stage)
        if self.fits_tokenizer:
            self.fits_tokenizer = False
            with self.cost.timed():
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
        self.cost.count(self.trainer.optimizers)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The phase's loss, a scalar float32."""
        assert self.phase is not None
        each = self.trainer.accumulate_grad_batches
        number = self.global_step * each + batch_idx % each  # of the whole training, also after a resume
        losses = self.phase.losses(self.autoencoder, batch, number)
        self.log_dict(losses, prog_bar=True)
        return next(iter(losses.values()))

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Keeps learned colours within [0, 1], before any callback averages them."""
        super().optimizer_step(*args, **kwargs)
        if self.autoencoder.transform.learned:
            self.autoencoder.transform.clamp_colours()

    def on_train_end(self) -> None:
        """Brings learned colours to whole 8-bit values.

        Raises:
            ValueError: if two colours have become one.
        """
        if not self.autoencoder.transform.learned:
            return
        try:
            self.autoencoder.transform.settle_colours()
        except ValueError as error:
            raise ValueError(
                f"learned colours ran together ({error}): lower maskige.lr or maskige.max_steps"
            ) from error

    def on_validation_epoch_start(self) -> None:
        """Empties all counts."""
        super().on_validation_epoch_start()
        self.phantom_classes.reset()
        self.boundary.reset()
        self.token_counts.reset()

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Labels (B, H, W) int64 through tokens and back, against the labels; tokens without labels do not count.

        Of the data sets beside the own one only the scores are of interest. Gives the reconstructed labels (B, H, W)
        int64 in [0, K), for callbacks that look at single pictures.
        """
        board, labels, conditions = self.boards[dataloader_idx], batch["labels"], batch["condition"]
        tokens = self.autoencoder.encode(labels)
        predicted = self.autoencoder.decode(tokens, (labels.shape[-2], labels.shape[-1])).labels()
        board.tally("ceiling").update(predicted, labels, conditions)
        if dataloader_idx == 0:
            self.token_counts.update(tokens, token_valid(labels, self.autoencoder.stride))
            self.phantom_classes.update(predicted, labels)
            self.boundary.update(predicted, labels)
        if self.phase is not None and self.generates:
            generated = self.phase.generate(self.autoencoder, batch).labels()
            board.tally("generated").update(generated, labels, conditions)
        return predicted

    def on_validation_epoch_end(self) -> None:
        """Logs the ceiling, how boundaries fare, and how much of the codebook was used.

        Without a conditioning network the ceiling is all there is to score; else its own scores come first.
        """
        self.log_figure("val/third_class_rate", self.phantom_classes.compute())
        self.log_figure("val/boundary_f3", self.boundary.mean())
        self.log_harmonic_mean([self._log_board(board, prefix) for prefix, board in self.prefixes().items()])
        counts = self.token_counts.compute()
        self.log_figure("val/codebook_usage", codebook_usage(counts))
        self.log_figure("val/codebook_perplexity", codebook_perplexity(counts))

    def _log_board(self, board: Scoreboard, prefix: str) -> float:
        """Logs the figures of one data set, and gives the mIoU of what is scored there."""
        of_labels = f"{prefix}/reconstruction" if self.generates else prefix
        ceiling = self.log_scores(board.tally("ceiling"), of_labels, in_detail=not self.generates)
        self.log_figure(f"{prefix}/ceiling", ceiling, prog_bar=prefix == "val")
        return self.log_scores(board.tally("generated"), prefix, in_detail=True) if self.generates else ceiling

    def panel_rows(self, batch: Batch, limit: int) -> list[PanelRow]:
        """Rows that show the reconstruction of the first `limit` label maps, (H, W) each."""
        labels = batch["labels"][:limit]
        maskige, result = self.autoencoder.transform.paint(labels), self.autoencoder.reconstruct(labels)
        read = (result.maskige(), result.labels(), result.class_probs())
        return [PanelRow(*row) for row in zip(batch["name"], batch["image"], labels, maskige, *read, strict=False)]

    def artefact(self, figures: Mapping[str, float]) -> PriorArtefact:
        """What stage two needs, with the ceiling and the boundary F-score of the measured figures, in [0, 1]."""
        description = {**self.record["prior"], "data_settings": self.record["config"]["data"]}
        ceiling, boundary_f3 = (figures[f"val/{name}"] for name in ("ceiling", "boundary_f3"))
        return PriorArtefact(description, ceiling, self.autoencoder.state_dict(), boundary_f3)


class TrainingCost:
    """Seconds by the wall clock and parameters that an optimiser moved, over all fits of a run.

    That is the dictionary of a tokenizer, its training, and whatever is trained after it.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._timing = False
        self._sizes: dict[int, int] = {}

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Adds the seconds that the block takes, once where one block lies within another."""
        outermost, start = not self._timing, time.perf_counter()
        self._timing = True
        try:
            yield
        finally:
            if outermost:
                self._timing = False
                self.seconds += time.perf_counter() - start

    def count(self, optimizers: Iterable[Optimizer]) -> None:
        """Adds the parameters of these optimisers, each one once; codes that follow moving averages are none."""
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                self._sizes |= {id(parameter): parameter.numel() for parameter in group["params"]}

    def figures(self) -> dict[str, float]:
        """`trained_parameters` (how many numbers gradients moved) and `seconds`, as a run's result gives them."""
        return {"trained_parameters": sum(self._sizes.values()), "seconds": self.seconds}
