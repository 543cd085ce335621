"""Proper scores of class_probs: negative log-likelihood and Brier score, least for the true probabilities."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from gss.exact_sums import mean_of_units, sum_of_units
from gss.labels import IGNORE

LEAST = float(torch.finfo(torch.float32).eps)
"""Probabilities below are taken for this, 1.2e-7, as in scikit-learn's `log_loss`: a pixel costs 15.9 nats at most."""


class PixelMean(Metric):
    """Mean over all labelled pixels seen of what a pixel costs, summed over processes."""

    full_state_update = False
    total: Tensor
    pixels: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "pixels"):  # the first in whole units
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, class_probs: Tensor, labels: Tensor) -> None:
        """Adds a batch: class_probs (B, K, H, W) float32, labels (B, H, W) int64 in [0, K) or 255, left out."""
        labelled = labels != IGNORE
        true_probs = class_probs.gather(1, (labels * labelled)[:, None])[:, 0]
        self.total += sum_of_units(self.cost(class_probs, true_probs).masked_select(labelled))
        self.pixels += labelled.sum()

    def compute(self) -> Tensor:
        """The mean, a scalar float64; nan without a pixel."""
        return mean_of_units(self.total, self.pixels)

    def cost(self, class_probs: Tensor, true_probs: Tensor) -> Tensor:
        """What each pixel costs, (B, H, W) float32, also where it is not labelled.

        Args:
            class_probs: (B, K, H, W) float32.
            true_probs: (B, H, W) float32, those of the true class.
        """
        raise NotImplementedError


class LogLikelihood(PixelMean):
    """Negative log-likelihood in nats, in [0, 15.9]: the mean of -log p(true class)."""

    def cost(self, class_probs: Tensor, true_probs: Tensor) -> Tensor:
        """-log p(true class)."""
        return -true_probs.clamp(LEAST, 1).log()


class BrierScore(PixelMean):
    """The mean of sum_k (p_k - [k is true])^2, in [0, 2] (Brier, "Verification of forecasts", 1950)."""

    def cost(self, class_probs: Tensor, true_probs: Tensor) -> Tensor:
        """sum_k p_k^2 - 2 p(true class) + 1."""
        cost = 1 - 2 * true_probs
        for of_class in class_probs.unbind(dim=1):  # ten times as fast as a sum over a dimension that is not the last
            cost.addcmul_(of_class, of_class)
        return cost
