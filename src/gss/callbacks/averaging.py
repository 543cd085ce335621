"""AveragedWeights: an exponential moving average of what learns; it is validated, kept and used."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class AveragedWeights(EMAWeightAveraging):
    """Lightning's EMAWeightAveraging, confined to what learns, without its open faults (PL#21724).

    The module tells by `learning() -> dict[str, nn.Module]` which of its submodules learn; all else, such as a frozen
    tokenizer, is neither copied nor averaged. Validation and thus `best.ckpt` are of the averaged weights, and so is
    `state_dict` of every checkpoint, which evaluation and prediction read; the raw weights lie beside it under
    `current_model_state`, for resuming. Running statistics (BatchNorm's mean and variance, a codebook) are averaged
    like weights; whole numbers, such as counts of batches, are taken over.

    Step n counts min(decay, (1 + n) / (10 + n)) of the average before it (as in TensorFlow's
    ExponentialMovingAverage), so that the random beginning is soon forgotten.

    Args:
        decay: in (0, 1); 0.999 looks back about 1000 steps.

    Raises:
        ValueError: if the decay is out of range.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"callbacks.ema.decay must lie in (0, 1), got {decay}")
        super().__init__(decay=decay)
        self.decay = decay
        self._exchanged = False  # whether the module holds the average, and `_average_model` the raw weights

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Forget the training before, of which there may be several in a run; nothing is copied yet.

        The module's own setup may still exchange what learns, and a distributed run its BatchNorm.
        """
        if stage == "fit":
            self._average_model, self._exchanged, self._latest_update_step = None, False, 0

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Give the module the raw weights back; it was filled from `state_dict`, which holds the average.

        Raises:
            ValueError: the training was one without average.
        """
        if trainer.state.fn != "fit":
            return
        if "averaging_state" not in checkpoint:
            raise ValueError("resume names a training without averaged weights: set callbacks as it was (default)")
        self._average_model = self._copy(pl_module)
        self._average_model.load_state_dict(checkpoint["averaging_state"], strict=False)
        pl_module.load_state_dict(checkpoint["current_model_state"])

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy what learns, where no checkpoint brought an average, now that all is in its place."""
        self._average_model = (self._average_model or self._copy(pl_module)).to(pl_module.device)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the weights to the average, after a batch that ended an optimiser step."""
        learning: Any = _learning(pl_module)  # its parameters and buffers are all that Lightning asks of it
        super().on_train_batch_end(trainer, learning, outputs, batch, batch_idx)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average in place, if there is one yet."""
        if trainer.state.fn == "fit" and not self._exchanged:
            self._exchange(pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the raw weights back."""
        if trainer.state.fn == "fit" and self._exchanged:
            self._exchange(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the average in place; the raw weights are kept for the last checkpoint."""
        self._exchange(pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average in place where a finished training was resumed, of which there is no end of training."""
        if not self._exchanged:
            self._exchange(pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the average into `state_dict`, and the raw weights beside it.

        What does not learn is in both, as the same tensors, which a file holds once.
        """
        if self._average_model is None:  # nothing was trained
            return
        state, other = checkpoint["state_dict"], self._other_state(pl_module)
        average, raw = (state, other) if self._exchanged else (other, state)
        if not self._started():
            average = raw
        checkpoint["state_dict"], checkpoint["current_model_state"] = {**state, **average}, {**state, **raw}
        checkpoint["averaging_state"] = {"n_averaged": self._average_model.n_averaged}

    def _copy(self, pl_module: pl.LightningModule) -> AveragedModel:
        return AveragedModel(_learning(pl_module), avg_fn=self._average, use_buffers=True)

    def _average(self, average: Tensor, current: Tensor, num_averaged: Tensor | int) -> Tensor:
        """One step of the average; written so that a constant stays the same to the last bit."""
        if not average.is_floating_point():
            return current
        decay = min(self.decay, (1 + int(num_averaged)) / (10 + int(num_averaged)))
        return average + (1 - decay) * (current - average)

    def _started(self) -> bool:
        return self._average_model is not None and int(self._average_model.n_averaged) > 0

    def _exchange(self, pl_module: pl.LightningModule) -> None:
        if self._started():
            learning: Any = _learning(pl_module)
            self._swap_models(learning)
            self._exchanged = not self._exchanged

    def _other_state(self, pl_module: pl.LightningModule) -> dict[str, Tensor]:
        """What `_average_model` holds, by the module's names."""
        assert self._average_model is not None
        copies = self._average_model.module
        assert isinstance(copies, nn.ModuleList)
        names = _parts(pl_module)
        pairs = zip(names, copies, strict=True)
        return {f"{name}.{inner}": tensor for name, copy in pairs for inner, tensor in copy.state_dict().items()}


def _parts(pl_module: pl.LightningModule) -> dict[str, nn.Module]:
    """What learns, by name."""
    module: Any = pl_module
    parts: dict[str, nn.Module] = module.learning()
    return parts


def _learning(pl_module: pl.LightningModule) -> nn.ModuleList:
    """What learns, as one module."""
    return nn.ModuleList(_parts(pl_module).values())
