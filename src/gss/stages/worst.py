"""Which label maps a tokenizer reconstructs worst: kept while Lightning validates, to be looked at afterwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from gss.labels import LabelSpace
from gss.metrics import confusion_counts, scores
from gss.stages.base import Batch


class Reconstructed(NamedTuple):
    """One label map after its way through tokens.

    Args:
        miou: of this label map alone, over the classes in it, in [0, 1].
        name: the photograph's.
        image: (3, H, W) float32 in [0, 1], which only the eye needs.
        labels: (H, W) int64 in [0, K) or 255.
        predicted_labels: (H, W) int64 in [0, K).
    """

    miou: float
    name: str
    image: Tensor
    labels: Tensor
    predicted_labels: Tensor


class WorstReconstructions(Callback):
    """Holds the label maps with the lowest mIoU of their own, the worst first; after validation those of all processes.

    Args:
        label_space: the classes.
        limit: label maps to hold.
    """

    def __init__(self, label_space: LabelSpace, limit: int = 10) -> None:
        super().__init__()
        self.label_space, self.limit = label_space, limit
        self.worst: list[Reconstructed] = []

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Looks at a batch of the own data set; `outputs` are its reconstructed labels (B, H, W) int64 in [0, K)."""
        if dataloader_idx > 0:
            return
        for name, *tensors in zip(batch["name"], batch["image"], batch["labels"], outputs, strict=True):
            image, labels, predicted = (tensor.cpu() for tensor in tensors)
            miou = self._miou(labels, predicted)
            if not math.isnan(miou):  # nan: no labelled pixel
                self._keep([Reconstructed(miou, name, image, labels, predicted)])

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Brings the worst of all processes together."""
        if trainer.world_size > 1:
            everyones: list[list[Reconstructed]] = [[] for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(everyones, self.worst)
            self.worst = []
            for found in everyones:
                self._keep(found)

    def _keep(self, found: Sequence[Reconstructed]) -> None:
        self.worst = sorted([*self.worst, *found], key=lambda one: (one.miou, one.name))[: self.limit]

    def _miou(self, labels: Tensor, predicted_labels: Tensor) -> float:
        """Mean IoU in [0, 1] over the classes that occur in one picture, (H, W) int64 both."""
        counts = confusion_counts(predicted_labels, labels, self.label_space.num_classes)
        return scores(counts, self.label_space.names).miou
