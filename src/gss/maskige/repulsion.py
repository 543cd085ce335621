"""Points of the RGB cube that push each other apart, for palettes whose closest pair is as far apart as it gets.

Any machine gives the same colours for a seed: after each step positions are rounded to 1/256 of an 8-bit value, which
keeps squared distances exact and drops the last bits, where processors differ.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

GRID_LEVELS = 18  # of the greedy start: 0, 15, ..., 255
NUM_STEPS = 1000
RATE = 0.3  # share of the missing distance that one step makes up for
REACH, NOISE = 0.2, 0.07  # at first, in mean distances to the nearest neighbour; both end at 0
COOLED = 0.8  # share of the steps after which noise and extra reach are gone
FINE = 256  # steps between two 8-bit values

Points = NDArray[np.float64]
WholePoints = NDArray[np.int64]


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
    greedy = farthest_first(_grid(), num_colours)
    found = [_settle(points) for points in (greedy, *np.rint(_repel(starts, random)))]
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


def _grid() -> WholePoints:
    """Candidates of the greedy start, (18^3, 3) int64 from 0 to 255; the first is black."""
    levels = np.linspace(0, 255, GRID_LEVELS).astype(np.int64)
    return np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)


def _repel(points: Points, random: np.random.RandomState) -> Points:
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


def _settle(points: Points | WholePoints) -> WholePoints:
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
