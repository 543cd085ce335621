"""Colour choice: one colour per class and one more for ignored pixels, which is black.

The paper's *maximal distance assumption*: the rows of beta, one colour per class, are placed far apart in RGB so that a
noisy maskige still decodes to the right class. Here points of the RGB cube push each other apart until the closest pair
is as far apart as it gets.

Any machine gives the same colours for a seed: after each step positions are rounded to 1/256 of an 8-bit value, which
keeps squared distances exact and drops the last bits, where processors differ.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gss.labels import LabelSpace

GRID_LEVELS = 18  # of the greedy start: 0, 15, ..., 255
NUM_STEPS = 1000
RATE = 0.3  # share of the missing distance that one step makes up for
REACH, NOISE = 0.2, 0.07  # at first, in mean distances to the nearest neighbour; both end at 0
COOLED = 0.8  # share of the steps after which noise and extra reach are gone
FINE = 256  # steps between two 8-bit values
MAX_CLASSES = 511  # 8 levels per channel would hold as many; their closest pair is 36 apart
NUM_CODES = 2**24  # 8-bit colours

Points = NDArray[np.float64]
WholePoints = NDArray[np.int64]


@dataclass(frozen=True)
class Palette:
    """The colours of a maskige.

    Args:
        colours: (K, 3) float32 in [0, 1], one row per class (beta in the paper).
        ignore_colour: (3,) float32 in [0, 1], painted where the labels are 255.
    """

    colours: Tensor
    ignore_colour: Tensor

    @classmethod
    def from_8_bit(cls, colours: Tensor) -> Palette:
        """A palette with black for ignored pixels, of colours (K, 3) of any dtype, whole values from 0 to 255."""
        return cls((colours.double() / 255).float(), torch.zeros(3))

    @classmethod
    def blank(cls, num_classes: int) -> Palette:
        """All black, to be filled from a file."""
        return cls.from_8_bit(torch.zeros(num_classes, 3))

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.colours)

    def every_8_bit(self) -> Tensor:
        """The K class colours and then the ignore colour, (K + 1, 3) int64 from 0 to 255."""
        return (torch.cat([self.colours, self.ignore_colour[None]]).detach().double() * 255).round().long()

    def closest_pair(self) -> tuple[int, int, float]:
        """The two colours that are least apart, as rows of `every_8_bit`, and their distance on the 0-255 scale."""
        colours = self.every_8_bit().double()
        distances = torch.cdist(colours, colours, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(math.inf)
        first, second = divmod(int(distances.argmin()), len(colours))
        return first, second, float(distances[first, second])

    def min_distance(self) -> float:
        """Smallest distance between two colours, the ignore colour included, on the 0-255 scale."""
        return self.closest_pair()[2]

    def check(self, num_classes: int) -> None:
        """Refuses a palette that cannot be read back as labels.

        Raises:
            ValueError: if it has not K colours, or two of its colours are the same 8-bit colour.
        """
        if self.num_classes != num_classes:
            raise ValueError(f"maskige.palette has {self.num_classes} colours for {num_classes} classes")
        first: dict[tuple[int, ...], int] = {}
        colours = [tuple(colour) for colour in self.every_8_bit().tolist()]
        for number, colour in enumerate(colours[:-1]):
            if colour == colours[-1]:
                raise ValueError(f"maskige.palette gives class {number} the colour {colour} of ignored pixels")
            if colour in first:
                raise ValueError(f"maskige.palette gives classes {first[colour]} and {number} the same colour {colour}")
            first[colour] = number


def max_distance_palette(num_classes: int, seed: int = 0) -> Palette:
    """Colours pushed apart from a greedy choice and random starts, in the order farthest first.

    Args:
        num_classes: K, from 1 to 511.
        seed: of the random starts.

    Raises:
        ValueError: if `num_classes` lies outside that range.
    """
    if not 1 <= num_classes <= MAX_CLASSES:
        raise ValueError(
            f"maskige.palette=max_distance separates 1 to {MAX_CLASSES} classes, got {num_classes}: "
            "check data.label_space.names"
        )
    return Palette.from_8_bit(torch.from_numpy(spread_colours(num_classes + 1, seed)[1:].copy()))


def random_palette(num_classes: int, seed: int = 0) -> Palette:
    """Colours sampled from all 8-bit colours but black, none twice (the paper's FF-R).

    Args:
        num_classes: K, at least 1.
        seed: of the sample.

    Raises:
        ValueError: if there are fewer colours than classes.
    """
    if not 1 <= num_classes < NUM_CODES:
        raise ValueError(f"maskige.palette=random colours 1 to {NUM_CODES - 1} classes, got {num_classes}")
    codes = torch.tensor(random.Random(seed).sample(range(1, NUM_CODES), num_classes))
    return Palette.from_8_bit(torch.stack([codes >> 16, codes >> 8 & 255, codes & 255], dim=1))


def dataset_palette(label_space: LabelSpace) -> Palette:
    """The display colours of the data set.

    Raises:
        ValueError: if two classes share a colour, or one is black as ignored pixels are.
    """
    palette = Palette.from_8_bit(torch.tensor(label_space.colours))
    try:
        palette.check(label_space.num_classes)
    except ValueError as error:
        raise ValueError(f"{error}: mend data.label_space.colours, or choose another maskige.palette") from error
    return palette


@functools.lru_cache(maxsize=32)
def spread_colours(num_colours: int, seed: int = 0) -> WholePoints:
    """8-bit colours whose closest pair is far apart: the best of the greedy choice and a few repelled random starts.

    Args:
        num_colours: N, at least 1, the black one included.
        seed: of the random starts.

    Returns:
        (N, 3) int64 from 0 to 255, read-only. The first is black, and each next one is the farthest from those before.
    """
    random = np.random.RandomState(seed)  # the one generator whose numbers no later version of numpy may change
    starts = random.uniform(0, 255, (4 if num_colours <= 64 else 2, num_colours, 3))
    levels = np.linspace(0, 255, GRID_LEVELS).astype(np.int64)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)  # begins with black
    greedy = farthest_first(grid, num_colours)
    found = [settle(points) for points in (greedy, *np.rint(repel(starts, random)))]
    best = max(found, key=lambda points: float(_squared_distances(points).min()))
    colours = farthest_first(best, num_colours)
    colours.setflags(write=False)
    return colours


def farthest_first(points: WholePoints, num_points: int) -> WholePoints:
    """Greedy choice (Gonzalez, 1985): the first point, then always the one whose nearest chosen point is farthest away.

    Args:
        points: (M, 3) int64 candidates.
        num_points: N, from 1 to M.

    Returns:
        (N, 3) int64 rows of `points`; of equally far ones the first is taken.
    """
    chosen = [0]
    nearest = np.full(len(points), np.iinfo(np.int64).max)
    while len(chosen) < num_points:
        nearest = np.minimum(nearest, np.square(points - points[chosen[-1]]).sum(1))
        chosen.append(int(nearest.argmax()))
    return points[chosen]


def repel(points: Points, random: np.random.RandomState) -> Points:
    """Lets points push away whoever is nearer than a reach; S sets (S, N, 3) in the cube from 0 to 255 at once.

    The first of each set is kept at black. The reach follows the mean distance to the nearest neighbour: it begins
    larger, with noise, and ends at that mean, so that the last to move are pairs that are closer than usual.
    """
    points[:, 0] = 0
    for step in range(NUM_STEPS if points.shape[1] > 1 else 0):
        heat = max(0.0, 1 - step / (COOLED * NUM_STEPS))
        distances = np.sqrt(np.maximum(_squared_distances(points), 1e-6))
        usual = distances.min(2).mean(1)[:, None, None]
        push = RATE * np.maximum(usual * (1 + REACH * heat) - distances, 0) / distances
        points = points + push.sum(2, keepdims=True) * points - push @ points
        points += usual * NOISE * heat * random.uniform(-1, 1, points.shape)
        points = np.rint(points.clip(0, 255) * FINE) / FINE
        points[:, 0] = 0
    return points


def settle(points: Points | WholePoints) -> WholePoints:
    """Moves points (N, 3) of whole values on until no point of a closest pair has a better place two steps around.

    A move must bring the point itself farther from its nearest neighbour, so the least distance never shrinks.
    """
    points = np.array(points, dtype=np.int64)
    steps = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    squared = _squared_distances(points)
    stuck = np.arange(len(points)) == 0  # black stays
    while len(points) > 1:
        nearest = np.where(stuck, np.inf, squared.min(1))
        worst = int(nearest.argmin())
        if nearest[worst] > squared.min():
            break  # both ends of every closest pair are stuck
        places = (points[worst] + steps).clip(0, 255)
        others = np.delete(points, worst, axis=0)
        reached = np.square(places[:, None] - others).sum(2).min(1)
        if reached.max() > nearest[worst]:
            points[worst] = places[reached.argmax()]
            squared = _squared_distances(points)
            stuck = np.arange(len(points)) == 0
        else:
            stuck[worst] = True
    return points


def _squared_distances(points: Points | WholePoints) -> Points:
    """|a - b|^2 of all pairs, (..., N, 3) to (..., N, N) float64, exact for multiples of 1/256 up to 255.

    The diagonal is infinite: no point is its own neighbour.
    """
    points = np.asarray(points, dtype=np.float64)
    lengths = np.square(points).sum(-1)
    squared: Points = lengths[..., :, None] + lengths[..., None, :] - 2 * (points @ points.swapaxes(-1, -2))
    squared[..., range(points.shape[-2]), range(points.shape[-2])] = np.inf
    return squared


PALETTES: dict[str, Callable[[LabelSpace, int], Palette]] = {
    "max_distance": lambda label_space, seed: max_distance_palette(label_space.num_classes, seed),
    "random": lambda label_space, seed: random_palette(label_space.num_classes, seed),
    "dataset": lambda label_space, seed: dataset_palette(label_space),
    "learned": lambda label_space, seed: max_distance_palette(label_space.num_classes, seed),  # where learning starts
}
