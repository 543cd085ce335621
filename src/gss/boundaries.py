"""Boundary F-score: how well the outlines of each class are met, which IoU hardly notices on large classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchmetrics import Metric

from gss.labels import IGNORE
from gss.metrics import mean_present
from gss.neighbourhood import CROSS, disc, occurs_near, touches_another


class BoundaryFScore(Metric):
    """F-score of each class's boundary at a tolerance, pooled over the data set.

    F_k = 2 P_k R_k / (P_k + R_k): the recall R_k is the share of true boundary pixels of class k with a predicted one
    of class k within the tolerance, the precision P_k the same the other way round (Csurka et al., "What is a good
    evaluation measure for semantic segmentation?", BMVC 2013). They average over pictures; here pixels are pooled over
    pictures and processes, as in the confusion matrix, so that a class which is rare in one picture adds no noise.

    - A boundary pixel of a class has a pixel of another class above, below, left or right of it; neither the border of
      the picture nor ignored pixels make a boundary.
    - Distances are Euclidean, as in that paper: a square would forgive slanted boundaries up to 1.4 times as much.
    - Boundary pixels within the tolerance of an ignored pixel are not counted, because the truth about their
      surroundings is not known; they still count as a match for others.

    Args:
        num_classes: K.
        tolerance: largest distance of a match, whole pixels.
    """

    full_state_update = False
    counted: Tensor
    matched: Tensor

    def __init__(self, num_classes: int, tolerance: int = 3) -> None:
        super().__init__()
        self.num_classes, self.tolerance = num_classes, tolerance
        for name in ("counted", "matched"):  # row 0: true boundaries, row 1: predicted ones
            self.add_state(name, torch.zeros(2, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted_labels: Tensor, labels: Tensor) -> None:
        """Adds a batch: two (B, H, W) int64; predicted in [0, K), labels in [0, K) or 255, which is left out."""
        reach = disc(self.tolerance)
        known = ~occurs_near(torch.tensor(IGNORE, device=labels.device), labels.short(), reach)
        edges = [_boundary_classes(drawn.short()) for drawn in (labels, predicted_labels)]
        for row, (mine, other) in enumerate((edges, edges[::-1])):
            counted = known & (mine != IGNORE)
            self.counted[row] += self._by_class(mine[counted])
            self.matched[row] += self._by_class(mine[counted & occurs_near(mine, other, reach)])

    def compute(self) -> Tensor:
        """F per class in [0, 1]: (K,) float64, nan for a class without any counted boundary, true or predicted."""
        recall, precision = self.matched.double() / self.counted.clamp(min=1)
        f_score = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
        return torch.where(self.counted.sum(0) > 0, f_score, math.nan)

    def mean(self) -> float:
        """Mean F in [0, 1] of the classes that have a boundary; nan if there is none."""
        return mean_present(self.compute())

    def _by_class(self, pixels: Tensor) -> Tensor:
        """Counts (K,) int64 of pixels (N,) int16 in [0, K)."""
        return torch.bincount(pixels, minlength=self.num_classes)


def _boundary_classes(labels: Tensor) -> Tensor:
    """Labels (B, H, W) integer where they are boundary pixels of their class, and 255 elsewhere."""
    return torch.where(touches_another(labels, CROSS), labels, IGNORE)
