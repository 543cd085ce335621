from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gss.metrics.confusion import ConfusionMatrix
from gss.metrics.reliability import BrierScore, LogLikelihood

DRAW = np.random.default_rng(0)
PROBS = torch.from_numpy(DRAW.dirichlet([0.3] * 5, (3, 8, 9)).astype(np.float32)).permute(0, 3, 1, 2).contiguous()
LABELS = torch.from_numpy(DRAW.choice([0, 1, 2, 4, 255], (3, 8, 9)))


def counted(class_probs, labels):
    """One pixel after the other: mean negative log-likelihood and mean squared distance to what is true."""
    nll, brier = [], []
    for probs, true in zip(
        class_probs.double().permute(0, 2, 3, 1).reshape(-1, 5).numpy(), labels.flatten(), strict=True
    ):
        if true != 255:
            nll.append(-math.log(max(probs[true], 2.0**-23)))
            brier.append(((probs - np.eye(5)[true]) ** 2).sum())
    return np.mean(nll), np.mean(brier)


def measured(metric, class_probs, labels):
    metric.update(class_probs, labels)
    return metric.compute().item()


def test_scores_are_those_of_a_loop_over_labelled_pixels():
    nll, brier = counted(PROBS, LABELS)
    assert measured(LogLikelihood(), PROBS, LABELS) == pytest.approx(nll, rel=1e-6)
    assert measured(BrierScore(), PROBS, LABELS) == pytest.approx(brier, rel=1e-6)


@pytest.mark.parametrize(("prob", "nll", "brier"), [(1.0, 0, 0), (0.0, 23 * math.log(2), 2), (0.5, math.log(2), 0.5)])
def test_closed_forms_and_what_the_impossible_costs(prob, nll, brier):
    class_probs = torch.tensor([prob, 1 - prob]).view(1, 2, 1, 1)
    labels = torch.zeros(1, 1, 1, dtype=torch.int64)
    assert measured(LogLikelihood(), class_probs, labels) == pytest.approx(nll)
    assert measured(BrierScore(), class_probs, labels) == pytest.approx(brier)


@pytest.mark.parametrize("kind", [LogLikelihood, BrierScore])
def test_any_order_and_division_gives_the_same_bits(kind):
    whole, first, second = kind(), kind(), kind()
    whole.update(PROBS, LABELS)
    first.update(PROBS[2:], LABELS[2:]), second.update(PROBS[:2].flip(0, 3), LABELS[:2].flip(0, 2))
    first.merge_state(second)
    assert first.compute().equal(whole.compute())
    assert set(whole._reductions.values()) == {ConfusionMatrix(2)._reductions["matrix"]}  # sums over processes


@pytest.mark.parametrize("kind", [LogLikelihood, BrierScore])
def test_without_a_labelled_pixel_nothing_is_claimed(kind):
    assert math.isnan(measured(kind(), PROBS, torch.full_like(LABELS, 255)))
