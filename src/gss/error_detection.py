"""AUROC and AUPR of errors: whether the pixels that are wrong are those that the network is least sure of."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

OCTAVES = 24
"""Halvings of the doubt that are told apart: 1 - confidence of a float32 is 0 or at least 2^-24."""


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
        place = self._bins(1 - confidence) + self.num_bins * ~right
        self.pixels += torch.bincount(place, minlength=2 * self.num_bins).view(2, -1)

    def compute(self) -> Tensor:
        """AUROC and AUPR in [0, 1], (2,) float64; nan without a wrong pixel, the AUROC also without a right one."""
        right, wrong = self.pixels.flip(1).double()  # the most doubtful first
        rights, wrongs = right.cumsum(0), wrong.cumsum(0)
        auroc = (wrong * (rights[-1] - rights + right / 2)).sum() / (wrongs[-1] * rights[-1])
        precision = wrongs / (rights + wrongs).clamp(min=1)
        return torch.stack([auroc, (wrong * precision).sum() / wrongs[-1]])

    def _bins(self, doubt: Tensor) -> Tensor:
        """Numbers (N,) int64 of bins, the higher the more doubtful, of doubts (N,) float32."""
        lowest = (127 - OCTAVES) << self.precision  # leading bits of 2^-24; 127 is the exponent of 1
        bits = doubt.clamp(0, 1).float().view(torch.int32)  # of positive numbers they grow with the number
        leading = bits >> (23 - self.precision)
        return (leading - lowest + 1).clamp(min=0).long()
