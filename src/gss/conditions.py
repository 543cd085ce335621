"""One confusion matrix for each named part of a data set: photographs in fog, at night, in rain, in snow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from gss.metrics import confusion_counts


class ConditionMatrices(Metric):
    """Counts (C, K, K) int64 of (condition, true class, predicted class) over all labelled pixels seen.

    All conditions are named before anything is seen, so that every process holds the same counts, whichever photographs
    it gets, and they can be summed over processes.

    Args:
        num_classes: K.
        conditions: C names.
    """

    full_state_update = False
    matrices: Tensor

    def __init__(self, num_classes: int, conditions: Sequence[str]) -> None:
        super().__init__()
        self.num_classes, self.conditions = num_classes, tuple(conditions)
        counts = torch.zeros(len(self.conditions), num_classes, num_classes, dtype=torch.int64)
        self.add_state("matrices", counts, dist_reduce_fx="sum")

    def update(self, predicted_labels: Tensor, labels: Tensor, conditions: Sequence[str]) -> None:
        """Adds a batch, picture by picture, but for those of no condition.

        Args:
            predicted_labels: (B, H, W) int64 in [0, K).
            labels: (B, H, W) int64 in [0, K) or 255, which is left out.
            conditions: B names; "" for none.
        """
        for predicted, true, condition in zip(predicted_labels, labels, conditions, strict=True):
            if condition:
                assert condition in self.conditions, f"condition {condition} was not announced"
                place = self.conditions.index(condition)
                self.matrices[place] += confusion_counts(predicted, true, self.num_classes)

    def compute(self) -> Tensor:
        """The matrices (C, K, K) int64 in the order of the names, true class by row."""
        return self.matrices
