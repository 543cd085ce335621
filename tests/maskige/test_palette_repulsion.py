from __future__ import annotations

import numpy as np
import pytest

from gss.maskige import palette
from gss.maskige.palette import farthest_first, spread_colours


def grid():
    """The 18 x 18 x 18 colours of the greedy start, from the definition."""
    levels = np.arange(0, 256, 15)
    return np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)


def closest_pair(points):
    """Squared distance of the closest pair, pair by pair, in whole numbers."""
    return min(int(((a - b) ** 2).sum()) for i, a in enumerate(points) for b in points[:i])


@pytest.mark.parametrize("num_points", [1, 2, 7])
def test_the_greedy_choice_takes_the_farthest_point(num_points):
    points, chosen = grid(), [grid()[0]]
    while len(chosen) < num_points:
        distances = [min(int(((point - other) ** 2).sum()) for other in chosen) for point in points]
        chosen.append(points[distances.index(max(distances))])
    np.testing.assert_array_equal(farthest_first(points, num_points), chosen)


# optima that can be reasoned out: opposite corners, a regular tetrahedron, a cube, a cube with its centre
@pytest.mark.parametrize(("num_colours", "squared"), [(2, 3 * 255**2), (4, 2 * 255**2), (8, 255**2), (9, 220**2)])
def test_small_numbers_of_colours_are_placed_best(num_colours, squared):
    assert closest_pair(spread_colours(num_colours)) == pytest.approx(squared, rel=5e-3)


@pytest.mark.parametrize("num_colours", [3, 12, 27, 80])
def test_repulsion_is_never_worse_than_the_greedy_choice(num_colours):
    assert closest_pair(spread_colours(num_colours)) >= closest_pair(farthest_first(grid(), num_colours))


def test_colours_begin_with_black_and_go_on_farthest_first():
    colours = spread_colours(20)
    assert colours[0].tolist() == [0, 0, 0]
    np.testing.assert_array_equal(farthest_first(colours, 20), colours)
    assert ((colours >= 0) & (colours <= 255)).all()


def test_a_seed_gives_the_same_colours_every_time():
    first, again, other = (spread_colours.__wrapped__(20, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("num_colours", [20, 60])
def test_the_last_bits_of_the_arithmetic_do_not_matter(num_colours):
    """Products and sums of 64 instead of 53 bits stand for a processor that rounds otherwise."""
    start = np.random.default_rng(0).uniform(0, 255, (2, num_colours, 3))
    double = palette.repel(start.copy(), np.random.RandomState(0))
    longer = palette.repel(start.astype(np.longdouble), np.random.RandomState(0))
    np.testing.assert_array_equal(longer.astype(np.float64), double)


@pytest.mark.parametrize("seed", range(3))
def test_settling_never_lowers_the_closest_distance(seed):
    points = np.random.default_rng(seed).integers(0, 256, (30, 3))
    points[0] = 0
    settled = palette.settle(points)
    assert closest_pair(settled) > closest_pair(points)
    assert settled[0].tolist() == [0, 0, 0]
    assert ((settled >= 0) & (settled <= 255)).all()
