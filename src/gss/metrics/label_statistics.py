"""How unlike two sets of label maps are: where classes lie, which of them touch, and in how many pieces they come.

Every distance is sum |a - b| / sum (a + b) (Bray and Curtis, 1957): 0 for equal sets, 1 for those that share nothing.
Of shares it is the total variation 1/2 sum |p - q|.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from gss.labels import IGNORE
from gss.maskige.assignment import touching_counts

BANDS = 8  # of rows, each as high as the others
SEGMENTS = (1, 2, 3, 5, 9, 17)  # a number of pieces counts in the last bin whose start it reaches; none in the first


@dataclass(frozen=True)
class ClassStatistics:
    """Counts over a set of label maps, to be compared with those of another set.

    Args:
        position: (BANDS, K) float64, pixels of each class in each band of rows.
        touching: (K, K) float64, neighbouring pixels of two classes, each pair once.
        segments: (K, bins) float64, maps in which a class comes in so many 4-connected pieces.
    """

    position: Tensor
    touching: Tensor
    segments: Tensor

    @property
    def num_maps(self) -> float:
        """N."""
        return float(self.segments[0].sum())

    def plus(self, other: ClassStatistics) -> ClassStatistics:
        """The counts of both sets together."""
        position, touching = self.position + other.position, self.touching + other.touching
        return ClassStatistics(position, touching, self.segments + other.segments)


def class_statistics(label_maps: Tensor, num_classes: int) -> ClassStatistics:
    """Counts of label maps (N, H, W) int64 in [0, K) or 255, which counts nowhere."""
    height = label_maps.shape[1]
    bands = torch.arange(height) * BANDS // height
    cells = (label_maps + bands[:, None] * num_classes)[label_maps != IGNORE]
    return ClassStatistics(
        torch.bincount(cells, minlength=BANDS * num_classes).view(BANDS, -1).double(),
        touching_counts([label_maps], num_classes).triu().double(),
        torch.stack([_segments(labels, num_classes) for labels in label_maps]).sum(0),
    )


def distances(first: ClassStatistics, second: ClassStatistics) -> dict[str, float]:
    """Three distances in [0, 1] between two sets of label maps of one size, which may differ in number.

    Lengths of boundaries are compared, not their shares: crumbs touch what their class touches anyway, only more often.

    Returns:
        `position` (the share of each class in each band of rows), `touching` (the length of the boundary between each
        pair of classes, per map), `segments` (in how many pieces a class comes, mean over classes that occur in
        either).
    """
    occurs = (first.segments[:, 1:].sum(1) + second.segments[:, 1:].sum(1)) > 0
    pieces = [total_variation(first.segments[k], second.segments[k]) for k in occurs.nonzero()[:, 0]]
    return {
        "position": total_variation(first.position, second.position),
        "touching": dissimilarity(first.touching / first.num_maps, second.touching / second.num_maps),
        "segments": sum(pieces) / max(len(pieces), 1),
    }


def total_variation(first: Tensor, second: Tensor) -> float:
    """1/2 sum |p - q| in [0, 1] of counts of one shape as shares; nothing against something is 1."""
    return dissimilarity(first / first.sum().clamp(min=1), second / second.sum().clamp(min=1))


def dissimilarity(first: Tensor, second: Tensor) -> float:
    """Sum |a - b| / sum (a + b) in [0, 1] of amounts of one shape; 0 where there is nothing at all."""
    together = first.sum() + second.sum()
    return float((first - second).abs().sum() / together) if together > 0 else 0.0


def _segments(labels: Tensor, num_classes: int) -> Tensor:
    """One map (H, W) as counts (K, bins): a single 1 in each row."""
    picture = labels.numpy().astype(np.uint8)
    classes = np.arange(num_classes, dtype=np.uint8)
    numbers = [cv2.connectedComponents((picture == k).astype(np.uint8), connectivity=4)[0] - 1 for k in classes]
    bins = torch.bucketize(torch.tensor(numbers), torch.tensor(SEGMENTS), right=True)
    return torch.nn.functional.one_hot(bins, len(SEGMENTS) + 1).double()
