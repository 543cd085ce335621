from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from boundary_reference import boundary_f_scores
from gss.metrics.boundaries import BoundaryFScore
from gss.metrics.confusion import ConfusionMatrix


def f_scores(predicted, labels, num_classes=3, tolerance=3):
    metric = BoundaryFScore(num_classes, tolerance)
    metric.update(predicted, labels)
    return metric.compute().tolist()


@pytest.mark.parametrize("tolerance", [1, 2, 3])
@pytest.mark.parametrize("ignored", [False, True])
def test_scores_are_those_of_all_pairs_of_boundary_pixels(draw_labels, tolerance, ignored):
    labels = draw_labels(3, (22, 30), num_classes=5, ignored=ignored)
    noisy = torch.where(torch.from_numpy(np.random.default_rng(0).random(labels.shape) < 0.05), 1, labels)
    predicted = torch.where(noisy == 255, 0, noisy).roll(2, dims=2)
    metric = BoundaryFScore(6, tolerance)
    for picture in range(3):
        metric.update(predicted[picture : picture + 1], labels[picture : picture + 1])
    expected = boundary_f_scores(predicted, labels, 6, tolerance)
    assert metric.compute().tolist() == pytest.approx(expected, nan_ok=True)
    assert metric.mean() == pytest.approx(np.nanmean(expected))
    assert math.isnan(expected[5])
    assert 0 < metric.mean() < 1


def stripes(*columns, height=7):
    return torch.tensor(columns).expand(1, height, len(columns))


@pytest.mark.parametrize(("shift", "expected"), [(0, 1), (3, 1), (4, 0)])
def test_a_boundary_may_be_off_by_the_tolerance(shift, expected):
    labels, predicted = stripes(*[0] * 8, *[1] * 8), stripes(*[0] * (8 + shift), *[1] * (8 - shift))
    assert f_scores(predicted, labels)[:2] == [expected] * 2


def test_distances_are_euclidean():
    """A single pixel moved by 3 rows and 1 column is further than 3, though no more than 3 along each axis."""
    labels, straight, aslant = (torch.zeros(1, 20, 20, dtype=torch.int64) for _ in range(3))
    labels[0, 8, 8] = straight[0, 11, 8] = aslant[0, 11, 9] = 1
    assert f_scores(straight, labels)[1] == 1
    assert f_scores(aslant, labels)[1] == 0


def test_a_boundary_of_the_wrong_class_is_no_match():
    assert f_scores(stripes(*[0] * 8, *[2] * 8), stripes(*[0] * 8, *[1] * 8)) == [1, 0, 0]


def test_neither_the_border_nor_ignored_pixels_make_a_boundary():
    assert all(math.isnan(value) for value in f_scores(stripes(*[1] * 9), stripes(*[1] * 4, *[255] * 5)))
    metric = BoundaryFScore(3)
    metric.update(stripes(*[1] * 9), stripes(*[1] * 4, *[255] * 5))
    assert math.isnan(metric.mean())


def test_what_lies_within_the_tolerance_of_ignored_pixels_is_not_counted():
    labels, wrong = stripes(*[0] * 8, *[1] * 8), stripes(*[0] * 16)
    for gap, counted in ((2, False), (3, True)):  # from the boundary pixel in column 7 or 8 to the ignored column
        hidden = labels.clone()
        hidden[..., 8 + gap + 1] = 255
        assert math.isnan(f_scores(wrong, hidden)[1]) is not counted


def test_a_picture_weighs_as_much_as_it_has_boundary():
    """Pooled over pictures: 7 pixels found of 7 + 14 true ones of class 1, none wrong."""
    empty, two, four = stripes(*[0] * 24), stripes(*[0] * 12, *[1] * 12), stripes(*[0] * 12, 1, 1, *[0] * 10)
    metric = BoundaryFScore(2)
    metric.update(two, two)
    metric.update(empty, four)
    assert metric.compute()[1] == pytest.approx(2 * (7 / 21) / (1 + 7 / 21))


def test_counts_add_up_over_processes(draw_labels):
    labels, predicted = (draw_labels(4, (16, 16), 4, seed=seed) for seed in range(2))
    whole, first, second = BoundaryFScore(4), BoundaryFScore(4), BoundaryFScore(4)
    whole.update(predicted, labels)
    first.update(predicted[:1], labels[:1]), second.update(predicted[1:], labels[1:])
    first.merge_state(second)
    assert first.compute().equal(whole.compute())
    reductions = ConfusionMatrix(4)._reductions["matrix"]
    assert set(whole._reductions.values()) == {reductions}  # sums over processes
