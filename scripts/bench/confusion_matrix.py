"""Scoring a picture: our pooled confusion matrix against `torchmetrics.segmentation.MeanIoU`."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchmetrics.segmentation import MeanIoU

from bench.harness import Effort, Row, time_in_turn
from gss.metrics.confusion import ConfusionMatrix, scores

NUM_CLASSES = 19
SIZE = (512, 1024)
WRONG = 0.2  # share of pixels with a random label
BAR = 10.0


def measure(effort: Effort) -> list[Row]:
    """One picture scored: with every class in it and nothing ignored, the two agree by definition."""
    pair = _picture()
    ours, other = _ours(*pair), _other(*pair)
    assert math.isclose(ours, other, rel_tol=1e-5), f"our mIoU is {ours}, that of torchmetrics {other}"
    return [time_in_turn("confusion_matrix", lambda: _ours(*pair), lambda: _other(*pair), BAR, effort)]


def _ours(predicted_labels: Tensor, labels: Tensor) -> float:
    matrix = ConfusionMatrix(NUM_CLASSES)
    matrix.update(predicted_labels, labels)
    return scores(matrix.compute(), [str(k) for k in range(NUM_CLASSES)]).miou


def _other(predicted_labels: Tensor, labels: Tensor) -> float:
    metric = MeanIoU(num_classes=NUM_CLASSES, input_format="index")
    metric.update(predicted_labels, labels)
    return float(metric.compute())


def _picture() -> tuple[Tensor, Tensor]:
    """Predicted and true labels, (1, 512, 1024) int64 each; blocks that hold every class."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.arange(SIZE[0] * SIZE[1] // 32**2) % NUM_CLASSES
    blocks = blocks[torch.randperm(len(blocks), generator=generator)].view(SIZE[0] // 32, SIZE[1] // 32)
    labels = blocks.repeat_interleave(32, 0).repeat_interleave(32, 1)[None]
    wrong = torch.rand(labels.shape, generator=generator) < WRONG
    return torch.where(wrong, torch.randint(NUM_CLASSES, labels.shape, generator=generator), labels), labels
