from __future__ import annotations

import numpy as np
import pytest
import torch

from gss.tokenizer.patch_clustering import kmodes, mistake_weights, nearest_codes

CLASSES, PIXELS = 4, 6
DRAW = np.random.default_rng(0)
PATCHES = torch.from_numpy(np.unique(DRAW.choice(CLASSES, (700, PIXELS), p=[0.6, 0.2, 0.15, 0.05]), axis=0))
COUNTS = torch.from_numpy(DRAW.uniform(0.1, 5, len(PATCHES))).float()
WEIGHTS = torch.tensor([0.4, 1.0, 1.3, 4.0])


def cluster(num_codes, iterations, counts=COUNTS, seed=0):
    return kmodes(PATCHES, counts, WEIGHTS, num_codes, iterations, torch.Generator().manual_seed(seed))


def all_costs(patches, codes):
    """Every patch against every code, by the definition: (N, V) float64."""
    weights, wrong = WEIGHTS.double().numpy(), patches.numpy()[:, None] != codes.numpy()[None]
    return (wrong * (weights[patches.numpy()][:, None] + weights[codes.numpy()][None])).sum(2)


def objective(shares):
    return float((all_costs(PATCHES, shares.argmax(2)).min(1) * COUNTS.numpy()).sum())


@pytest.mark.parametrize("num_codes", [1, 7, 1500])  # the last needs several tables
def test_the_nearest_code_is_the_argmin_over_all_pairs(num_codes):
    codes = torch.from_numpy(np.random.default_rng(1).integers(0, CLASSES, (num_codes, PIXELS)))
    found, cost = nearest_codes(PATCHES, codes, WEIGHTS)
    expected = all_costs(PATCHES, codes)
    np.testing.assert_allclose(cost.numpy(), expected.min(1), atol=1e-4)
    np.testing.assert_allclose(expected[np.arange(len(PATCHES)), found.numpy()], expected.min(1), atol=1e-4)


def test_ignored_pixels_cost_nothing():
    holed = PATCHES.clone()
    holed[:, ::2] = CLASSES
    codes = PATCHES[:50]
    expected = all_costs(PATCHES[:, 1::2], codes[:, 1::2]).min(1)
    np.testing.assert_allclose(nearest_codes(holed, codes, WEIGHTS)[1].numpy(), expected, atol=1e-4)


def test_a_small_mistake_lowers_the_miou_by_what_it_costs():
    """The weights are the first-order effect of a wrong pixel on the mIoU, up to one factor."""
    pixels = np.array([50_000, 8_000, 3_000])
    weights = mistake_weights(torch.from_numpy(pixels / pixels.sum()), power=1.0).double().numpy()

    def loss(true, shown):
        matrix = np.diag(pixels)
        matrix[true, true], matrix[true, shown] = pixels[true] - 1, 1
        union = matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
        return 1 - (matrix.diagonal() / union).mean()

    pairs = [(true, shown) for true, shown in np.ndindex(3, 3) if true != shown]
    factors = [loss(true, shown) / (weights[true] + weights[shown]) for true, shown in pairs]
    np.testing.assert_allclose(factors, factors[0], rtol=1e-3)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_the_mean_pixel_counts_one_and_an_absent_class_like_the_rarest(power):
    shares = torch.tensor([0.7, 0.0, 0.25, 0.05])
    weights = mistake_weights(shares, power)
    assert (weights * shares).sum().item() == pytest.approx(1)
    assert weights[1] == weights[3] == weights.max()


def test_iterations_lower_the_objective():
    costs = [objective(cluster(100, iterations)[0]) for iterations in (0, 1, 2, 8)]
    assert costs[0] > costs[1] > costs[2] >= costs[3]


def test_the_start_covers_more_than_the_heaviest_patches_do():
    heaviest = PATCHES[COUNTS.topk(100).indices]
    start = cluster(100, 0)[0].argmax(2)
    costs = [float((all_costs(PATCHES, codes).min(1) * COUNTS.numpy()).sum()) for codes in (heaviest, start)]
    assert costs[1] < costs[0]


def test_shares_are_those_of_the_patches_that_a_code_attracts():
    shares, nearest = cluster(6, 4)
    for index, share in enumerate(shares):
        mine = nearest.numpy() == index
        one_hot = np.eye(CLASSES)[PATCHES.numpy()[mine]]
        np.testing.assert_allclose(share, np.average(one_hot, axis=0, weights=COUNTS.numpy()[mine]), atol=1e-5)


def test_with_a_code_for_each_patch_nothing_is_lost():
    shares, nearest = cluster(len(PATCHES), 2)
    assert shares.argmax(2)[nearest].equal(PATCHES)


def test_no_code_stays_without_patches():
    heaped = torch.where(PATCHES[:, 0] == 0, 1e3, 1e-3)  # nearly the whole start lies on one side
    shares, nearest = cluster(100, 6, heaped)
    assert len(shares) == len(nearest.unique()) == 100


def test_progress_is_told_after_each_iteration():
    told = []
    kmodes(PATCHES, COUNTS, WEIGHTS, 5, 4, torch.Generator().manual_seed(0), told.append)
    assert told == [1, 2, 3, 4]
