"""Scores from ONE confusion matrix over the whole data set, as the benchmarks compute them; and token counts.

One more matrix for each named part of a data set: images in fog, at night, in rain, in snow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric

from gss.labels import IGNORE


class ConfusionMatrix(Metric):
    """Counts (K, K) int64 of (true class, predicted class) over all labelled pixels seen, summed over processes.

    `torchmetrics.segmentation.MeanIoU` averages per picture and cannot leave out ignored pixels; benchmarks pool.

    Args:
        num_classes: K.
    """

    full_state_update = False
    matrix: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("matrix", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted_labels: Tensor, labels: Tensor) -> None:
        """Adds a batch: two (B, H, W) int64; predicted in [0, K), labels in [0, K) or 255, which is left out."""
        self.matrix += confusion_counts(predicted_labels, labels, self.num_classes)

    def compute(self) -> Tensor:
        """The matrix (K, K) int64, true class by row."""
        return self.matrix


class ConditionMatrices(Metric):
    """Counts (C, K, K) int64 of (condition, true class, predicted class) over all labelled pixels seen.

    All conditions are named before anything is seen, so that every process holds the same counts, whichever images
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


class TokenCounts(Metric):
    """Counts (V,) int64 of each token over all valid cells seen, summed over processes.

    Args:
        vocab_size: V.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.add_state("counts", torch.zeros(vocab_size, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, tokens: Tensor, token_valid: Tensor) -> None:
        """Adds a batch: tokens (B, h, w) int64 in [0, V), as far as token_valid (B, h, w) bool says."""
        self.counts += torch.bincount(tokens[token_valid], minlength=self.vocab_size)

    def compute(self) -> Tensor:
        """The counts (V,) int64."""
        return self.counts


@dataclass(frozen=True)
class Scores:
    """Scores in [0, 1]; nan for a class that occurs neither in the labels nor in the prediction.

    Args:
        miou: mean intersection over union of the classes that occur.
        macc: mean recall of the classes that occur in the labels.
        aacc: share of labelled pixels that are right.
        per_class: IoU by class name.
    """

    miou: float
    macc: float
    aacc: float
    per_class: dict[str, float]


def scores(matrix: Tensor, names: Sequence[str]) -> Scores:
    """mIoU, mean and overall accuracy of a confusion matrix.

    Args:
        matrix: (K, K) integer counts, true class by row, predicted class by column.
        names: K class names.
    """
    counts = matrix.double().cpu()
    hit, true, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    iou = hit / (true + predicted - hit)  # 0 / 0 = nan: the class is absent
    recall = hit / true
    return Scores(
        miou=mean_present(iou),
        macc=mean_present(recall),
        aacc=float(hit.sum() / counts.sum()),
        per_class={name: float(value) for name, value in zip(names, iou, strict=True)},
    )


def confusion_counts(predicted_labels: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Counts (K, K) int64 of one batch, true class by row, in this process alone.

    Args:
        predicted_labels: (..., H, W) int64 in [0, K).
        labels: (..., H, W) int64 in [0, K) or 255, which is left out.
        num_classes: K.
    """
    cell = labels * num_classes + predicted_labels  # ignored pixels count beyond the K x K cells
    counts = torch.bincount(cell.flatten(), minlength=(IGNORE + 1) * num_classes)
    return counts[: num_classes**2].view(num_classes, num_classes)


def mean_present(values: Tensor) -> float:
    """Mean of the values (K,) float64 in [0, 1] that are not nan; nan if there is none."""
    present = values[~values.isnan()]
    return float(present.mean()) if len(present) else math.nan


def codebook_usage(counts: Tensor) -> float:
    """Share in [0, 1] of the codes that occur at all, of counts (V,) int64."""
    return float((counts > 0).double().mean())


def codebook_perplexity(counts: Tensor) -> float:
    """Codes in effective use: exp of the entropy of counts (V,) int64 as shares; from 1 (one code) to V (all alike).

    It is nan where nothing was counted.
    """
    share = counts.double() / counts.sum()
    return float(torch.special.entr(share).sum().exp())
