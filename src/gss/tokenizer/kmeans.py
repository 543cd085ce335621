"""Weighted k-means by Lloyd's iterations, for tens of thousands of patches on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CHUNK = 1 << 14  # points compared with all centres at once: bounds memory to CHUNK x V floats


def nearest_centre(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the nearest centre of each point, and the squared distance to it.

    Args:
        points: (N, D) float32.
        centres: (V, D) float32.

    Returns:
        assignment (N,) int64 in [0, V) and squared distances (N,) float32.
    """
    offsets = centres.square().sum(1)
    assignment, distance = [], []
    for chunk in points.split(CHUNK):
        score, index = torch.addmm(offsets, chunk, centres.T, alpha=-2).min(1)
        assignment.append(index)
        distance.append((score + chunk.square().sum(1)).clamp_(min=0))
    return torch.cat(assignment), torch.cat(distance)


def kmeans(
    points: Tensor,
    weights: Tensor,
    num_centres: int,
    iterations: int,
    generator: torch.Generator,
    on_iteration: Callable[[int], None] = lambda iteration: None,
) -> Tensor:
    """Centres that minimise the weighted sum of squared distances to the nearest centre.

    It starts from points drawn in proportion to their weights; a centre that loses all its points moves to the point
    that costs most, so no centre is dead while distinct points are left.

    Args:
        points: (N, D) float32, distinct, N >= num_centres.
        weights: (N,) float32, positive.
        num_centres: V.
        iterations: number of Lloyd iterations.
        generator: draws the first centres.
        on_iteration: called with the number of iterations done.

    Returns:
        centres (V, D) float32.
    """
    assert len(points) >= num_centres, (len(points), num_centres)
    start = torch.multinomial(weights.double(), num_centres, generator=generator)
    centres = points[start].clone()
    for iteration in range(iterations):
        assignment, distance = nearest_centre(points, centres)
        mass = torch.zeros(num_centres).index_add_(0, assignment, weights)
        total = torch.zeros_like(centres).index_add_(0, assignment, points * weights[:, None])
        dead = mass == 0
        centres = total / mass.clamp(min=torch.finfo(mass.dtype).tiny)[:, None]
        worst = (distance * weights).topk(int(dead.sum())).indices
        centres[dead] = points[worst]
        on_iteration(iteration + 1)
    return centres
