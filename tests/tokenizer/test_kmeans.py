from __future__ import annotations

import numpy as np
import torch

from gss.tokenizer.kmeans import kmeans, nearest_centre

DRAW = np.random.default_rng(0)
POINTS = torch.from_numpy(DRAW.normal(size=(300, 4)) + 3 * DRAW.integers(0, 4, (300, 1))).float()
WEIGHTS = torch.from_numpy(DRAW.uniform(0.1, 5, 300)).float()


def cluster(num_centres, iterations, weights=WEIGHTS):
    return kmeans(POINTS, weights, num_centres, iterations, torch.Generator().manual_seed(0))


def squared_distances(centres):
    """All pairs in float64: (N, V)."""
    return ((POINTS.double().numpy()[:, None] - centres.double().numpy()[None]) ** 2).sum(2)


def test_the_nearest_centre_is_the_argmin_over_all_pairs():
    centres = cluster(20, 3)
    assignment, distance = nearest_centre(POINTS, centres)
    assert assignment.tolist() == squared_distances(centres).argmin(1).tolist()
    np.testing.assert_allclose(distance.numpy(), squared_distances(centres).min(1), atol=1e-4)


def test_no_iteration_raises_the_weighted_objective():
    costs = [float((squared_distances(cluster(20, n)).min(1) * WEIGHTS.numpy()).sum()) for n in range(9)]
    assert np.all(np.diff(costs) <= 1e-5 * costs[0])
    assert costs[-1] < 0.8 * costs[0]


def test_centres_are_the_weighted_means_of_what_they_attract():
    centres = cluster(6, 60).double().numpy()
    nearest = squared_distances(torch.from_numpy(centres)).argmin(1)
    for index, centre in enumerate(centres):
        mean = np.average(POINTS.numpy()[nearest == index], axis=0, weights=WEIGHTS.numpy()[nearest == index])
        np.testing.assert_allclose(centre, mean, atol=1e-4)


def test_with_a_centre_for_each_point_nothing_is_lost():
    assert squared_distances(cluster(len(POINTS), 3)).min(1).max() < 1e-8


def test_no_centre_stays_without_points():
    heaped = torch.full_like(WEIGHTS, 1e-3)
    heaped[POINTS[:, 0] > POINTS[:, 0].median()] = 1e3  # nearly all first centres lie on one side
    nearest = squared_distances(cluster(100, 10, heaped)).argmin(1)
    assert len(np.unique(nearest)) == 100


def test_progress_is_told_after_each_iteration():
    told = []
    kmeans(POINTS, WEIGHTS, 5, 4, torch.Generator().manual_seed(0), told.append)
    assert told == [1, 2, 3, 4]
