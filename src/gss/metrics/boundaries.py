"""How well the outlines of each class are met, which IoU hardly notices on large classes: boundary F-score and IoU.

Below them, who lies near whom in a label map: the same few shifts serve boundaries, bands around them and their
matching.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchmetrics import Metric

from gss.labels import IGNORE
from gss.metrics.confusion import mean_present

Offset = tuple[int, int]
CROSS: tuple[Offset, ...] = ((-1, 0), (0, -1), (0, 1), (1, 0))


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
        both = (labels.short(), predicted_labels.short())
        edges = [torch.where(touches_another(one, CROSS), one, IGNORE) for one in both]
        for row, (mine, other) in enumerate((edges, edges[::-1])):
            counted = known & (mine != IGNORE)
            matched = counted & occurs_near(mine, other, reach)
            self.counted[row] += torch.bincount(mine[counted], minlength=self.num_classes)
            self.matched[row] += torch.bincount(mine[matched], minlength=self.num_classes)

    def compute(self) -> Tensor:
        """F per class in [0, 1]: (K,) float64, nan for a class without any counted boundary, true or predicted."""
        recall, precision = self.matched.double() / self.counted.clamp(min=1)
        f_score = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
        return torch.where(self.counted.sum(0) > 0, f_score, math.nan)

    def mean(self) -> float:
        """Mean F in [0, 1] of the classes that have a boundary; nan if there is none."""
        return mean_present(self.compute())


class BoundaryIoU(Metric):
    """IoU of the bands inside the outlines of each class alone, which a large interior cannot hide; pooled.

    |(G_d and G) and (P_d and P)| / |(G_d and G) or (P_d and P)| (Cheng et al., "Boundary IoU: improving object-centric
    image segmentation evaluation", CVPR 2021, equation 2), where G and P are the true and the predicted mask and G_d,
    P_d the pixels within d of their contours. The paper scores single objects; here the mask of a class is all its
    pixels in a picture, and both counts are pooled over pictures and processes before they are divided, as in the
    confusion matrix.

    As in the paper's code, d is `dilation_ratio` of the picture's diagonal, rounded and at least 1; the distance is
    that of the chessboard; and the border of the picture is a contour. Ignored pixels are taken for outside of the
    picture, in the true and the predicted mask: they are not counted, and classes end where they begin.

    Args:
        num_classes: K.
        dilation_ratio: d as a share of the picture's diagonal.
    """

    full_state_update = False
    bands: Tensor

    def __init__(self, num_classes: int, dilation_ratio: float = 0.02) -> None:
        super().__init__()
        self.num_classes, self.dilation_ratio = num_classes, dilation_ratio
        # pixels of the true band, of the predicted one, and of both with the same class
        self.add_state("bands", torch.zeros(3, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted_labels: Tensor, labels: Tensor) -> None:
        """Adds a batch: two (B, H, W) int64; predicted in [0, K), labels in [0, K) or 255, which is left out."""
        reach = max(1, round(self.dilation_ratio * math.hypot(labels.shape[1], labels.shape[2])))
        true = labels.byte()
        predicted = torch.where(true == IGNORE, true, predicted_labels.byte())
        in_true, in_predicted = (_inner_band(one, reach) for one in (true, predicted))
        both = in_true & in_predicted & (true == predicted)
        found = ((true, in_true), (predicted, in_predicted), (true, both))
        # counted among the ignored pixels and cut off, which is faster than picked out
        inside = (torch.where(band, one, IGNORE).flatten() for one, band in found)
        self.bands += torch.stack([torch.bincount(one, minlength=IGNORE + 1)[: self.num_classes] for one in inside])

    def compute(self) -> Tensor:
        """Boundary IoU per class in [0, 1]: (K,) float64, nan for a class that occurs nowhere."""
        true, predicted, both = self.bands.double()
        iou: Tensor = both / (true + predicted - both)
        return iou

    def mean(self) -> float:
        """Mean in [0, 1] over the classes that occur; nan if there is none."""
        return mean_present(self.compute())


def _inner_band(labels: Tensor, reach: int) -> Tensor:
    """Whether another class, ignored pixels or the border are within reach: (B, H, W) bool, False on ignored pixels.

    Args:
        labels: (B, H, W) uint8 in [0, K) or 255.
        reach: of the square around each pixel, to each side.
    """
    around = pad(labels, [reach] * 4, value=IGNORE)
    highest, lowest = _over_squares(around, reach, torch.maximum), _over_squares(around, reach, torch.minimum)
    return (highest != lowest) & (labels != IGNORE)


def _over_squares(values: Tensor, reach: int, larger: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The largest (or smallest) value in the square around each pixel: (B, H, W) of (B, H + 2 reach, W + 2 reach).

    The two sides come one after the other, each by doubling: the largest of 2 n values is the larger of two of n.
    """
    side = 2 * reach + 1
    for dim in (1, 2):
        covered = 1
        while covered < side:
            step = min(covered, side - covered)
            length = values.shape[dim] - step
            values = larger(values.narrow(dim, 0, length), values.narrow(dim, step, length))
            covered += step
    return values


def touches_another(labels: Tensor, offsets: Sequence[Offset]) -> Tensor:
    """Whether another class lies at one of the offsets: (B, H, W) bool, False on ignored pixels.

    Args:
        labels: (B, H, W) integer in [0, K) or 255; ignored pixels are no class, nor is what lies outside the picture.
        offsets: (rows, columns) from each pixel.
    """
    found = torch.zeros_like(labels, dtype=torch.bool)
    for near in _shifted(labels, offsets, IGNORE):
        found |= (near != labels) & (near != IGNORE)
    return found & (labels != IGNORE)


def occurs_near(wanted: Tensor, labels: Tensor, offsets: Sequence[Offset]) -> Tensor:
    """Whether the wanted label of each pixel occurs in another label map at one of the offsets: (B, H, W) bool.

    Args:
        wanted: (B, H, W) integer, or one number for all pixels.
        labels: (B, H, W) integer; nothing is found outside the picture.
        offsets: (rows, columns) from each pixel.
    """
    found = torch.zeros_like(labels, dtype=torch.bool)
    for near in _shifted(labels, offsets, -1):
        found |= near == wanted
    return found


def square(radius: int) -> list[Offset]:
    """Offsets (rows, columns) of all pixels at most `radius` rows and columns away, the pixel itself included."""
    steps = range(-radius, radius + 1)
    return list(itertools.product(steps, steps))


def disc(radius: int) -> list[Offset]:
    """Offsets (rows, columns) of all pixels at a Euclidean distance of at most `radius`, the pixel itself included."""
    return [(row, column) for row, column in square(radius) if row**2 + column**2 <= radius**2]


def _shifted(labels: Tensor, offsets: Sequence[Offset], outside: int) -> Iterator[Tensor]:
    """What labels (B, H, W) hold at each offset in turn, (B, H, W), and `outside` beyond their border."""
    reach = max(abs(step) for offset in offsets for step in offset)
    around = pad(labels, [reach] * 4, value=outside)
    height, width = labels.shape[1:]
    for row, column in offsets:
        yield around[:, reach + row : reach + row + height, reach + column : reach + column + width]
