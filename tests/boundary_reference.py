"""The boundary F-score from its definition in numpy: every two boundary pixels and the distance between them."""

from __future__ import annotations

import math

import numpy as np


def outline(picture, k):
    """Pixels of class k beside another class, one after the other."""
    found = []
    for y, x in zip(*np.nonzero(picture == k), strict=True):
        beside = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inside = [(v, u) for v, u in beside if 0 <= v < picture.shape[0] and 0 <= u < picture.shape[1]]
        if any(picture[place] not in (k, 255) for place in inside):
            found.append((y, x))
    return np.array(found, float).reshape(-1, 2)


def distances(points, others):
    """From each point (N, 2) to the nearest of the others; infinite where there is none."""
    if not len(others):
        return np.full(len(points), np.inf)
    return np.sqrt(((points[:, None] - others[None]) ** 2).sum(-1)).min(1)


def boundary_f_scores(predicted, labels, num_classes, tolerance):
    """F per class of label maps (B, H, W), pooled; nan for a class without a counted boundary."""
    result = []
    for k in range(num_classes):
        counted, matched = np.zeros(2), np.zeros(2)
        for guess, true in zip(predicted.numpy(), labels.numpy(), strict=True):
            edges, hidden = [outline(true, k), outline(guess, k)], np.argwhere(true == 255)
            for row in range(2):
                known = distances(edges[row], hidden) > tolerance
                counted[row] += known.sum()
                matched[row] += (known & (distances(edges[row], edges[1 - row]) <= tolerance)).sum()
        if not counted.any():
            result.append(math.nan)
            continue
        recall, precision = matched / np.maximum(counted, 1)
        result.append(2 * precision * recall / (precision + recall) if matched.all() else 0.0)
    return result
