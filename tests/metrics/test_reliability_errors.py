from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gss.metrics.confusion import ConfusionMatrix
from gss.metrics.reliability import ErrorDetection

DRAW = np.random.default_rng(0)


def detected(confidence, right, precision=12):
    metric = ErrorDetection(precision)
    metric.update(confidence, right)
    return tuple(metric.compute().tolist())


def all_pairs(confidence, right):
    """AUROC from every wrong pixel and every right one."""
    doubt = 1 - confidence.numpy()
    wrong, sound = doubt[~right.numpy()][:, None], doubt[right.numpy()][None]
    return ((wrong > sound) + 0.5 * (wrong == sound)).mean()


def threshold_by_threshold(confidence, right):
    """Average precision as scikit-learn defines it: what is found from each distinct doubt on."""
    doubt, wrong, found, before = 1 - confidence.numpy(), ~right.numpy(), 0.0, 0.0
    for threshold in sorted(set(doubt.tolist()), reverse=True):
        chosen = doubt >= threshold
        recall = wrong[chosen].sum() / wrong.sum()
        found += (recall - before) * wrong[chosen].mean()
        before = recall
    return found


def drawn(number=2000, steps=None):
    """Confidences that crowd at 1, in steps or not, and right more often where they are higher."""
    confidence = 1 - 10 ** -DRAW.uniform(0.3, 6, number)
    confidence = (confidence if steps is None else np.round(confidence * steps) / steps).astype(np.float32)
    return torch.from_numpy(confidence), torch.from_numpy(DRAW.random(number) < 0.4 + 0.6 * confidence**3)


def test_few_values_are_told_apart_and_give_the_exact_figures():
    confidence, right = drawn(steps=512)
    auroc, aupr = detected(confidence, right)
    assert auroc == pytest.approx(all_pairs(confidence, right), abs=1e-12)
    assert aupr == pytest.approx(threshold_by_threshold(confidence, right), abs=1e-12)
    assert 0.55 < auroc < 0.95


def bounds(metric):
    """The errors that the documentation allows, from the counts."""
    right, wrong = metric.pixels.flip(1).double().numpy()
    best = (wrong.cumsum()) / np.maximum(wrong.cumsum() + right.cumsum() - right, 1)
    worst = (wrong.cumsum() - wrong) / np.maximum(wrong.cumsum() - wrong + right.cumsum(), 1)
    pairs = wrong.sum() * right.sum()
    return (wrong * right).sum() / (2 * pairs), (wrong / wrong.sum() * (best - worst)).sum()


@pytest.mark.parametrize("precision", [0, 3, 12])
def test_bins_cost_no_more_than_is_said(precision):
    confidence, right = drawn()
    metric = ErrorDetection(precision)
    metric.update(confidence, right)
    errors = np.abs(
        metric.compute().numpy() - (all_pairs(confidence, right), threshold_by_threshold(confidence, right))
    )
    allowed = bounds(metric)
    assert (errors <= np.add(allowed, 1e-12)).all()
    assert precision == 12 or errors[0] > 1e-7  # coarse bins do differ
    assert precision != 12 or (allowed[0] < 1e-4 and errors[1] < 1e-3)


@pytest.mark.parametrize("scale", [1, 2**-10, 2**-20])
def test_bins_are_as_fine_beside_certainty_as_anywhere(scale):
    """Wrong pixels are doubted by a hundredth more than right ones, or by as much less."""
    right = torch.arange(200) % 2 == 0
    doubt = scale * torch.where(right, 0.50, 0.50 + 2.0**-6 if scale > 2**-20 else 0.75)
    assert detected(1 - doubt, right) == (1, 1)
    assert detected(1 - doubt, ~right)[0] == 0


@pytest.mark.parametrize(
    ("confidence", "right", "expected"),
    [
        ([0.9, 0.9, 0.9, 0.9], [1, 0, 1, 1], (0.5, 0.25)),  # all ties: chance, and the share of errors
        ([1.0, 1.0, 0.2, 0.2], [1, 1, 0, 0], (1, 1)),
        ([1.0, 0.9, 0.8, 0.7], [0, 1, 1, 1], (0, 0.25)),
        ([1.0000001, 0.0], [1, 0], (1, 1)),  # a sum of float32 may exceed 1
        ([0.9, 0.5], [1, 1], (math.nan, math.nan)),  # no errors to detect
        ([0.9, 0.5], [0, 0], (math.nan, 1)),  # nothing to tell them from
        ([], [], (math.nan, math.nan)),
    ],
)
def test_closed_forms(confidence, right, expected):
    found = detected(torch.tensor(confidence), torch.tensor(right, dtype=torch.bool))
    assert found == pytest.approx(expected, nan_ok=True)


def test_counts_add_up_over_processes():
    confidence, right = drawn()
    whole, first, second = ErrorDetection(), ErrorDetection(), ErrorDetection()
    whole.update(confidence, right)
    first.update(confidence[:1500], right[:1500]), second.update(confidence[1500:], right[1500:])
    first.merge_state(second)
    assert first.compute().equal(whole.compute())
    assert whole._reductions["pixels"] is ConfusionMatrix(2)._reductions["matrix"]  # a sum over processes
    assert whole.pixels.sum() == 2000
