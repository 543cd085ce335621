from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from gss.metrics.confusion import ConfusionMatrix
from gss.metrics.reliability import CalibrationError

DRAW = np.random.default_rng(0)
CONFIDENCE = torch.from_numpy(DRAW.beta(5, 1, 4000).astype(np.float32))
RIGHT = torch.from_numpy(DRAW.random(4000)) < CONFIDENCE**2


def measured(confidence, right, **options):
    metric = CalibrationError(**options)
    metric.update(confidence, right)
    return metric.compute().item()


def counted(confidence, right, num_bins):
    """Bin after bin, in double precision."""
    confidence, right = confidence.numpy().astype(float), right.numpy()
    error, edges = 0.0, np.linspace(0, 1, num_bins + 1)
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_the_error_is_that_of_a_loop_over_bins(num_bins):
    found = measured(CONFIDENCE, RIGHT, num_bins=num_bins)
    assert found == pytest.approx(counted(CONFIDENCE, RIGHT, num_bins), abs=1e-7)
    assert 0.05 < found < 1


@pytest.mark.parametrize(("confidence", "share", "expected"), [(0.75, 0.75, 0), (1.0, 0.5, 0.5), (0.25, 1.0, 0.75)])
def test_one_claim_is_off_by_its_difference_from_what_holds(confidence, share, expected):
    right = torch.arange(400) < 400 * share
    assert measured(torch.full((400,), confidence), right) == pytest.approx(expected)


def test_errors_in_opposite_directions_do_not_cancel_between_bins():
    confidence, right = torch.tensor([0.5] * 10 + [0.9] * 10), torch.tensor([True] * 10 + [False] * 10)
    assert measured(confidence, right) == pytest.approx((0.5 + 0.9) / 2)


def test_any_order_and_division_of_the_pixels_gives_the_same_bits():
    order = torch.from_numpy(DRAW.permutation(4000))
    whole, first, second = CalibrationError(), CalibrationError(), CalibrationError()
    whole.update(CONFIDENCE, RIGHT)
    for metric, part in ((first, order[:3001]), (second, order[3001:])):
        metric.update(CONFIDENCE[part], RIGHT[part])
    first.merge_state(second)
    assert first.compute().equal(whole.compute())
    assert set(whole._reductions.values()) == {ConfusionMatrix(2)._reductions["matrix"]}  # sums over processes


def test_without_a_pixel_nothing_is_claimed():
    assert math.isnan(measured(torch.zeros(0), torch.zeros(0, dtype=torch.bool)))
