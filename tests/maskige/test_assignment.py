from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from gss.maskige import assignment
from gss.maskige.assignment import assign_colours, pair_costs, touching_counts
from gss.maskige.palette import Palette, max_distance_palette, random_palette

TEMPERATURE = 900.0


def colours_of(*eight_bit):
    return torch.tensor(eight_bit) / 255


def test_neighbours_are_counted_both_ways_and_ignored_pixels_touch_nothing():
    labels = torch.tensor([[[0, 0, 1], [2, 255, 1], [2, 1, 1]]])
    # across: 0|1 in the first row, 2|1 in the last; down: 0 over 2 in the first column
    assert touching_counts([labels], 3).tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
    assert touching_counts([labels, labels], 3).tolist() == [[0, 2, 2], [2, 0, 2], [2, 2, 0]]
    assert touching_counts([torch.full((1, 4, 4), 255)], 3).sum() == 0


def test_counts_are_those_of_a_loop_over_pixels(draw_labels):
    labels = draw_labels(2, (12, 15), num_classes=5, ignored=True)
    expected = np.zeros((5, 5), int)
    for picture, row, column in np.ndindex(*labels.shape):
        for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            if 0 <= row + down < 12 and 0 <= column + right < 15:
                here, there = int(labels[picture, row, column]), int(labels[picture, row + down, column + right])
                if here != there and 255 not in (here, there):
                    expected[here, there] += 1
    np.testing.assert_array_equal(touching_counts([labels[:1], labels[1:]], 5).numpy(), expected)


def test_a_colour_between_two_others_makes_that_pair_dear():
    """Of nine mixtures of the ends, those from 0.3 to 0.7 are nearest to the middle; its own pairs have none."""
    costs = pair_costs(colours_of((0, 0, 0), (128, 128, 128), (255, 255, 255)), temperature=1.0)
    assert costs[0, 2].item() == pytest.approx(5 / 9 + assignment.CLOSENESS * (127 / 255) ** 2, abs=1e-6)
    assert costs[1, 2].item() == pytest.approx(assignment.CLOSENESS, abs=1e-6)


def test_costs_are_the_closed_form():
    colours = random_palette(6).colours
    points, shares = colours.double().numpy() * 255, np.arange(1, 10) / 10
    closest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(points, 2))
    for first, second in itertools.permutations(range(6), 2):
        third = []
        for share in shares:
            weights = np.exp(
                -(((share * points[first] + (1 - share) * points[second]) - points) ** 2).sum(1) / TEMPERATURE
            )
            third.append(1 - (weights[first] + weights[second]) / weights.sum())
        near = assignment.CLOSENESS * (closest / np.linalg.norm(points[first] - points[second])) ** 2
        cost = pair_costs(colours, TEMPERATURE)[first, second].item()
        assert cost == pytest.approx(np.mean(third) + near, abs=1e-9)


def total(colours, touching):
    return float((touching.double() * pair_costs(colours, TEMPERATURE)).sum())


@pytest.mark.parametrize("seed", range(4))
def test_no_permutation_costs_less(seed):
    palette = random_palette(6, seed)
    touching = torch.randint(100, (6, 6), generator=torch.Generator().manual_seed(seed)).triu(1)
    touching += touching.T.clone()
    best = min(total(palette.colours[list(order)], touching) for order in itertools.permutations(range(6)))
    found = assign_colours(palette, touching, TEMPERATURE)
    assert total(found.colours, touching) == pytest.approx(best, rel=1e-4)


@pytest.fixture(scope="module")
def touching(draw_labels):
    return touching_counts([draw_labels(8, (48, 64), num_classes=19)], 19)


def test_colours_are_only_given_to_other_classes(touching):
    palette = max_distance_palette(19)
    assigned = assign_colours(palette, touching, TEMPERATURE)
    assert sorted(assigned.colours.tolist()) == sorted(palette.colours.tolist())
    assert assigned.ignore_colour.equal(palette.ignore_colour)
    assert total(assigned.colours, touching) < 0.7 * total(palette.colours, touching)


def test_a_seed_gives_the_same_assignment_every_time(touching):
    first, again = (assign_colours(max_distance_palette(19), touching, TEMPERATURE, seed=1) for _ in range(2))
    assert first.colours.equal(again.colours)


def test_each_swap_is_counted_exactly():
    """Descent by all swaps at once ends where no single swap, counted anew, saves anything."""
    random = np.random.default_rng(0)
    weights, costs = (np.triu(random.integers(0, 50, (9, 9)), 1).astype(float) for _ in range(2))
    weights, costs = weights + weights.T, costs + costs.T
    order = assignment.descend(weights, costs, np.arange(9))

    def counted(order):
        return (weights * costs[np.ix_(order, order)]).sum()

    assert counted(order) < counted(np.arange(9))
    for first, second in itertools.combinations(range(9), 2):
        swapped = order.copy()
        swapped[[first, second]] = swapped[[second, first]]
        assert counted(swapped) >= counted(order)


@pytest.mark.parametrize("num_classes", [1, 2, 5])
def test_where_nothing_touches_colours_stay(num_classes):
    palette = max_distance_palette(num_classes)
    assert assign_colours(palette, torch.zeros(num_classes, num_classes, dtype=torch.int64), TEMPERATURE) is palette


def test_the_colour_between_goes_to_the_class_that_is_elsewhere():
    """Classes 0 and 1 always touch; the grey in the middle of the row must not be read between them."""
    palette = Palette(colours_of((10, 10, 10), (255, 255, 255), (130, 130, 130)), torch.zeros(3))
    touching = torch.tensor([[0, 90, 1], [90, 0, 1], [1, 1, 0]])
    assigned = (assign_colours(palette, touching, TEMPERATURE).colours * 255).round()
    assert [130, 130, 130] in assigned[:2].int().tolist()
