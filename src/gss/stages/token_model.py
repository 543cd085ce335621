"""The second training of stage=prior with a token model: p(z), learned from the tokens of training labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from gss.labels import LabelSpace
from gss.stages.base import Stage
from gss.stages.optimisation import Optimisation
from gss.token_model.masked import MaskedTokenTransformer, random_masks


class TokenBatch(TypedDict):
    """Grids of the frozen tokenizer: `tokens` (B, h, w) int64 in [0, V), `number` (B,) int64, which map it is."""

    tokens: Tensor
    number: Tensor


class TokenModelStage(Stage):
    """Trains a token model by cross-entropy on tokens that it does not see (MaskGIT, equation 1).

    Args:
        model: the network.
        label_space: the classes, for the record.
        optimisation: optimiser and schedule.
        record: plain data on the run.
        seed: of the masks in training.
    """

    stage_name, may_learn = "prior token model", ("model",)

    def __init__(
        self,
        model: MaskedTokenTransformer,
        label_space: LabelSpace,
        optimisation: Optimisation,
        record: Mapping[str, Any],
        seed: int = 0,
    ) -> None:
        super().__init__(label_space, optimisation, record, scored=())
        self.model = model
        self.nll = MeanMetric()
        self.seed = seed

    def names(self, batch: TokenBatch) -> list[str]:
        """The label maps of a batch by number."""
        return [f"label map {int(number)}" for number in batch["number"]]

    def on_train_start(self) -> None:
        """Each process masks by its own numbers."""
        self.generator = torch.Generator().manual_seed(self.seed * self.trainer.world_size + self.global_rank)

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        """Mean cross-entropy of the masked tokens, in nats: a scalar float32."""
        masked = random_masks(len(batch["tokens"]), self.model.grid, self.generator).to(self.device)
        loss = self._loss(batch["tokens"], masked)
        self.log("train/token_nll", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Empties the mean."""
        self.nll.reset()

    def validation_step(self, batch: TokenBatch, batch_idx: int) -> None:
        """The same for tokens (B, h, w) of validation labels; each map always gets the same mask."""
        numbers = (torch.Generator().manual_seed(int(number)) for number in batch["number"])
        masked = torch.cat([random_masks(1, self.model.grid, generator) for generator in numbers]).to(self.device)
        self.nll.update(self._loss(batch["tokens"], masked), weight=masked.sum())

    def on_validation_epoch_end(self) -> None:
        """Logs nats per masked token, and their perplexity: from 1 (certain) to V (no idea)."""
        nll = self.nll.compute()
        self.log_figure("val/token_nll", float(nll), prog_bar=True)
        self.log_figure("val/token_perplexity", float(nll.exp()))

    def _loss(self, tokens: Tensor, masked: Tensor) -> Tensor:
        """Cross-entropy of tokens (B, h, w) int64 in [0, V) where masked (B, h, w) is True."""
        features = self.model.features(tokens.masked_fill(masked, self.model.mask_token))
        return nn.functional.cross_entropy(self.model.scores(features[masked]).float(), tokens[masked])
