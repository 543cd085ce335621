from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from gss.metrics.confusion import ConfusionMatrix, TokenCounts, codebook_perplexity, codebook_usage, scores

NAMES = ("road", "car", "tree", "sky")
DRAW = np.random.default_rng(0)
LABELS = torch.from_numpy(DRAW.choice([0, 1, 3, 255], (4, 9, 7), p=[0.5, 0.2, 0.2, 0.1]))  # no tree
PREDICTED = torch.from_numpy(np.where(DRAW.random((4, 9, 7)) < 0.6, LABELS % 255, DRAW.choice([0, 1, 3], (4, 9, 7))))


def counted(predicted, labels):
    """One pixel after the other."""
    matrix = np.zeros((4, 4), int)
    for guess, true in zip(predicted.flatten().tolist(), labels.flatten().tolist(), strict=True):
        if true != 255:
            matrix[true, guess] += 1
    return matrix


@pytest.fixture
def matrix():
    metric = ConfusionMatrix(4)
    for predicted, labels in zip(PREDICTED.split(3), LABELS.split(3), strict=True):
        metric.update(predicted, labels)
    return metric.compute()


def test_pixels_are_counted_over_all_batches_and_ignored_ones_left_out(matrix):
    assert matrix.dtype == torch.int64
    assert matrix.tolist() == counted(PREDICTED, LABELS).tolist()
    assert matrix.sum() == (LABELS != 255).sum()


def test_counts_equal_those_of_torchmetrics(matrix):
    oracle = MulticlassConfusionMatrix(4, ignore_index=255)
    assert matrix.equal(oracle(PREDICTED, LABELS))


def test_a_reset_forgets():
    metric = ConfusionMatrix(4)
    metric.update(PREDICTED, LABELS)
    metric.reset()
    metric.update(PREDICTED[:1], LABELS[:1])
    assert metric.compute().tolist() == counted(PREDICTED[:1], LABELS[:1]).tolist()


def test_scores_are_intersections_over_unions_of_pixel_sets(matrix):
    found = scores(matrix, NAMES)
    labelled, expected = LABELS != 255, {}
    for k in (0, 1, 3):
        true, guessed = (k == LABELS) & labelled, (k == PREDICTED) & labelled
        expected[NAMES[k]] = ((true & guessed).sum() / (true | guessed).sum()).item()
    assert {name: found.per_class[name] for name in expected} == pytest.approx(expected)
    assert found.miou == pytest.approx(sum(expected.values()) / 3)
    assert found.aacc == pytest.approx((PREDICTED == LABELS)[labelled].double().mean().item())
    recall = [(k == PREDICTED)[k == LABELS].double().mean().item() for k in (0, 1, 3)]
    assert found.macc == pytest.approx(sum(recall) / 3)


def test_a_class_that_occurs_nowhere_is_nan_and_out_of_every_mean(matrix):
    found = scores(matrix, NAMES)
    assert math.isnan(found.per_class["tree"])
    assert not math.isnan(found.miou + found.macc)


def test_a_class_that_is_only_predicted_counts_as_zero():
    found = scores(torch.tensor([[3, 1], [0, 0]]), ("road", "car"))
    assert found.per_class == {"road": 0.75, "car": 0.0}
    assert (found.miou, found.macc, found.aacc) == (0.375, 0.75, 0.75)


def test_a_perfect_prediction_scores_one():
    found = scores(torch.diag(torch.tensor([5, 1, 2, 9])), NAMES)
    assert (found.miou, found.macc, found.aacc) == (1, 1, 1)


def test_without_a_labelled_pixel_nothing_is_claimed():
    found = scores(torch.zeros(4, 4, dtype=torch.int64), NAMES)
    assert all(math.isnan(value) for value in (found.miou, found.macc, found.aacc, *found.per_class.values()))


def test_counts_beyond_single_precision_stay_exact():
    found = scores(torch.tensor([[2**40 + 1, 0], [1, 2**40]]), ("road", "car"))
    assert found.per_class["road"] < 1


def test_tokens_are_counted_where_they_are_valid_and_over_all_batches_and_processes():
    tokens, valid = torch.from_numpy(DRAW.integers(0, 7, (4, 3, 5))), torch.from_numpy(DRAW.random((4, 3, 5)) < 0.7)
    first, second = TokenCounts(9), TokenCounts(9)
    first.update(tokens[:1], valid[:1]), first.update(tokens[1:2], valid[1:2]), second.update(tokens[2:], valid[2:])
    first.merge_state(second)
    assert first.compute().dtype == torch.int64
    assert first.compute().tolist() == [int((tokens[valid] == token).sum()) for token in range(9)]
    assert first._reductions["counts"] is ConfusionMatrix(9)._reductions["matrix"]  # a sum over processes
    first.reset()
    assert first.counts.sum() == 0


@pytest.mark.parametrize(
    ("counts", "usage", "perplexity"),
    [
        ([5] * 12, 1, 12),  # uniform: V
        ([0, 0, 7, 0], 1 / 4, 1),  # one code
        ([3, 0, 3, 0, 0], 2 / 5, 2),
        ([1, 2, 1], 1, 2**1.5),  # entropy 1.5 bits
        ([2**40, 2**40, 0, 0], 1 / 2, 2),
    ],
)
def test_usage_and_perplexity_have_their_closed_forms(counts, usage, perplexity):
    assert codebook_usage(torch.tensor(counts)) == pytest.approx(usage)
    assert codebook_perplexity(torch.tensor(counts)) == pytest.approx(perplexity)


def test_without_a_token_no_perplexity_is_claimed():
    assert codebook_usage(torch.zeros(3, dtype=torch.int64)) == 0
    assert math.isnan(codebook_perplexity(torch.zeros(3, dtype=torch.int64)))
