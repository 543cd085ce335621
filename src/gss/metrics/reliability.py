"""Whether class_probs can be relied on: calibration, proper scores and the detection of errors.

- Calibration: whether a pixel that is claimed with 80 % is right in 80 of 100 cases.
- Proper scores, negative log-likelihood and Brier score, are least for the true probabilities.
- AUROC and AUPR: whether the pixels that are wrong are those that the network is least sure of.

Sums of fractions are counted in whole units, so that they do not depend on their order and several processes come to
the bits of one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from gss.labels import IGNORE

UNIT = 2.0**-24  # that is counted: the step of float32 between 1/2 and 1; each summand is rounded to whole units
LEAST = float(torch.finfo(torch.float32).eps)  # of probabilities, 1.2e-7, as in scikit-learn's `log_loss`: 15.9 nats
OCTAVES = 24  # halvings of the doubt that are told apart: 1 - confidence of a float32 is 0 or at least 2^-24


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
        self.confidence += torch.bincount(place, weights=to_units(confidence), minlength=self.num_bins).long()

    def compute(self) -> Tensor:
        """The error in [0, 1], a scalar float64; nan without a pixel."""
        gaps = (self.right - self.confidence.double() * UNIT).abs()
        return gaps.sum() / self.pixels.sum()


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
        self.total += to_units(self.cost(class_probs, true_probs).masked_select(labelled)).sum().long()
        self.pixels += labelled.sum()

    def compute(self) -> Tensor:
        """The mean, a scalar float64; nan without a pixel."""
        return self.total.double() * UNIT / self.pixels

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


class ErrorDetection(Metric):
    """AUROC and average precision of "this pixel is wrong" by its doubt, pooled over all labelled pixels seen.

    The doubt is 1 - max_k class_probs, positives are the pixels that are wrong (Hendrycks and Gimpel, "A baseline for
    detecting misclassified examples", ICLR 2017).

    - AUROC is the chance that a wrong pixel is doubted more than a right one, ties counted half.
    - AUPR is the average precision sum_n (R_n - R_{n-1}) P_n, without interpolation, as in scikit-learn.

    Doubts are counted in bins that a number's leading bits name, so that they are as fine beside certainty as
    anywhere: the exponent and `precision` bits of the mantissa, which makes bins of a relative width below
    2^-precision, 98,306 of them for 12 bits. Within a bin all are ties. The AUROC is therefore off by at most half the
    share of pairs, one pixel wrong and one right, that meet in a bin: sum_b wrong_b right_b / (2 wrong right). The
    average precision is off by at most sum_b (wrong_b / wrong) (best_b - worst_b), where the precision within bin b
    lies between worst_b (all its right pixels first) and best_b (none of them).

    Args:
        precision: bits of the mantissa that count.
    """

    full_state_update = False
    pixels: Tensor

    def __init__(self, precision: int = 12) -> None:
        super().__init__()
        self.precision, self.num_bins = precision, (OCTAVES << precision) + 2  # and no doubt at all, and all of it
        # row 0: right pixels, row 1: wrong ones, by doubt
        self.add_state("pixels", torch.zeros(2, self.num_bins, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, confidence: Tensor, right: Tensor) -> None:
        """Adds labelled pixels: confidence (N,) float32 in [0, 1], right (N,) bool."""
        lowest = (127 - OCTAVES) << self.precision  # leading bits of 2^-24; 127 is the exponent of 1
        bits = (1 - confidence).clamp(0, 1).float().view(torch.int32)  # of positive numbers they grow with the number
        leading = bits >> (23 - self.precision)
        place = (leading - lowest + 1).clamp(min=0).long() + self.num_bins * ~right
        self.pixels += torch.bincount(place, minlength=2 * self.num_bins).view(2, -1)

    def compute(self) -> Tensor:
        """AUROC and AUPR in [0, 1], (2,) float64; nan without a wrong pixel, the AUROC also without a right one."""
        right, wrong = self.pixels.flip(1).double()  # the most doubtful first
        rights, wrongs = right.cumsum(0), wrong.cumsum(0)
        auroc = (wrong * (rights[-1] - rights + right / 2)).sum() / (wrongs[-1] * rights[-1])
        precision = wrongs / (rights + wrongs).clamp(min=1)
        return torch.stack([auroc, (wrong * precision).sum() / wrongs[-1]])


def to_units(values: Tensor) -> Tensor:
    """Values (N,) float as whole units, (N,) float64.

    An int64 holds the sum of 2^39 of them that are at most 1; a float64 that of 2^29 values below 16 exactly.
    """
    return (values.double() / UNIT).round()
