"""Which class gets which colour: classes that touch get colours far apart with no other class's colour between them.

Where two classes meet, a decoded maskige mixes their colours. If another class's colour lies near the mixtures, a line
of that phantom class appears along the boundary. What a pair of colours costs depends on the palette alone, and how
often two classes meet on the labels alone, so the best assignment solves a quadratic assignment problem:
minimise sum_ij touching_ij cost(colour_i, colour_j).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gss.labels import IGNORE
from gss.maskige.palette import Palette

MIXTURES = 9  # of two colours, evenly spaced between them
CLOSENESS = 0.05  # cost of the closest pair for being close; it falls with the square of the distance
NUM_STARTS = 64  # of the search; an eighth of them above as many classes, where each takes long
WHOLE = 1_000_000  # costs and counts become integers up to this, so that no sum depends on the machine

ASSIGNMENTS = {"class_order": False, "confusion_aware": True}  # whether it looks at the training labels

Whole = NDArray[np.float64]  # integers, held as float64 for fast products: exact below 2^53


def touching_counts(label_maps: Iterable[Tensor], num_classes: int) -> Tensor:
    """How often two classes are 4-neighbours.

    Args:
        label_maps: training labels, each (B, H, W) int64 in [0, K) or 255, which touches nothing.
        num_classes: K.

    Returns:
        (K, K) int64, symmetric, zero on the diagonal: pairs of neighbouring pixels of two classes.
    """
    counts = torch.zeros(num_classes**2, dtype=torch.int64)
    for labels in label_maps:
        for here, there in ((labels[:, 1:], labels[:, :-1]), (labels[..., 1:], labels[..., :-1])):
            meet = (here != there) & (here != IGNORE) & (there != IGNORE)
            counts += torch.bincount(here[meet] * num_classes + there[meet], minlength=num_classes**2)
    square = counts.view(num_classes, num_classes)
    return square + square.T


def pair_costs(colours: Tensor, temperature: float) -> Tensor:
    """What it costs to give two touching classes these two colours.

    The mean probability, over mixtures of both, that the soft distance (`maskige.inverse`) gives to all other classes,
    and a little for being close.

    Args:
        colours: (K, 3) float32 in [0, 1], the palette.
        temperature: of the soft distance, in squared 8-bit units.

    Returns:
        (K, K) float64, symmetric, zero on the diagonal, from 0 to 1 + CLOSENESS.
    """
    points, costs = colours.double() * 255, torch.zeros(len(colours), len(colours), dtype=torch.float64)
    shares = torch.arange(1, MIXTURES + 1, dtype=torch.float64)[:, None] / (MIXTURES + 1)
    others = torch.arange(len(points))
    for row, colour in enumerate(points):
        mixtures = colour * (1 - shares) + points[:, None] * shares  # (K, MIXTURES, 3)
        probs = (-(mixtures[:, :, None] - points).square().sum(3) / temperature).softmax(2)
        phantom = 1 - probs[:, :, row] - probs[others, :, others]
        costs[row] = phantom.mean(1).clamp(min=0)
    squared = (points[:, None] - points).square().sum(2).fill_diagonal_(torch.inf)
    costs = (costs + costs.T) / 2 + CLOSENESS * squared.min() / squared
    return costs.fill_diagonal_(0)


def assign_colours(palette: Palette, touching: Tensor, temperature: float, seed: int = 0) -> Palette:
    """The same colours in the order that costs least.

    Args:
        palette: K colours in any order.
        touching: (K, K) integer counts, from `touching_counts`.
        temperature: of the soft distance, in squared 8-bit units.
        seed: of the random starts.

    Returns:
        The palette with its colours permuted; as it was if no two classes touch.
    """
    if palette.num_classes < 3 or not touching.any():
        return palette
    costs, weights = (_whole(square) for square in (pair_costs(palette.colours, temperature), touching))
    random = np.random.RandomState(seed)
    num_starts = NUM_STARTS if palette.num_classes <= NUM_STARTS else NUM_STARTS // 8
    starts = [np.arange(palette.num_classes), *(random.permutation(palette.num_classes) for _ in range(num_starts))]
    found = [descend(weights, costs, order) for order in starts]
    best = min(found, key=lambda order: float((weights * costs[np.ix_(order, order)]).sum()))
    return Palette(palette.colours[torch.from_numpy(best)], palette.ignore_colour)


def _whole(square: Tensor) -> Whole:
    """A symmetric matrix (K, K) scaled to whole numbers from 0 to WHOLE."""
    return (square.double() * (WHOLE / float(square.max()))).round().numpy()


def descend(weights: Whole, costs: Whole, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Swaps the two colours that save most until no swap saves anything.

    Args:
        weights: (K, K) whole numbers, how often two classes touch.
        costs: (K, K) whole numbers, what it costs to give two touching classes two colours.
        order: (K,) int64, class k has colour order[k]; it stays as it is.

    Returns:
        The order (K,) int64 that is found.
    """
    order = order.copy()
    while True:
        placed = costs[np.ix_(order, order)]
        cross = weights @ placed
        own = cross.diagonal()
        # what a swap of the colours of classes r and s adds to half the total, for all r and s at once
        change = cross + cross.T - own[:, None] - own + 2 * weights * placed
        first, second = divmod(int(change.argmin()), len(order))
        if change[first, second] >= 0:
            return order
        order[[first, second]] = order[[second, first]]
