"""Expected calibration error: whether a pixel that is claimed with 80 % is right in 80 of 100 cases."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from gss.exact_sums import UNIT, count_by


class CalibrationError(Metric):
    """Expected calibration error over all labelled pixels seen, summed over processes.

    ECE = sum_m |right_m - confidence_m| / N (Guo et al., "On calibration of modern neural networks", ICML 2017,
    equation 3): the confidence of a pixel is the largest of its class_probs; of the N pixels, bin m holds those with a
    confidence in ((m - 1) / M, m / M], of which right_m were right where their confidences sum to confidence_m.

    Args:
        num_bins: M, of equal width.
    """

    full_state_update = False
    pixels: Tensor
    right: Tensor
    confidence: Tensor

    def __init__(self, num_bins: int = 15) -> None:
        super().__init__()
        self.num_bins = num_bins
        for name in ("pixels", "right", "confidence"):  # the last in whole units
            self.add_state(name, torch.zeros(num_bins, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, confidence: Tensor, right: Tensor) -> None:
        """Adds labelled pixels: confidence (N,) float32 in [0, 1], right (N,) bool."""
        place = (confidence * self.num_bins).ceil().clamp(1, self.num_bins).long() - 1
        wrong_and_right = torch.bincount(2 * place + right, minlength=2 * self.num_bins).view(-1, 2)
        self.pixels += wrong_and_right.sum(1)
        self.right += wrong_and_right[:, 1]
        self.confidence += count_by(place, self.num_bins, confidence)

    def compute(self) -> Tensor:
        """The error in [0, 1], a scalar float64; nan without a pixel."""
        gaps = (self.right - self.confidence.double() * UNIT).abs()
        return gaps.sum() / self.pixels.sum()
