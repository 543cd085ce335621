from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gss.objectives.conditioning import pixel_loss
from gss.objectives.losses import mistake_loss, reconstruction_loss

LOGITS = torch.randn(2, 7, 3, 4, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randint(7, (2, 3, 4), generator=torch.Generator().manual_seed(1))
VALID = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(2)) > 0.3


def certain(classes, num_classes=7):
    """Scores that put all their mass on the given classes."""
    return torch.where(torch.nn.functional.one_hot(classes, num_classes).movedim(-1, 1) == 1, 0.0, -math.inf)


def test_pixel_loss_is_the_mean_negative_log_probability_of_labelled_pixels():
    labels = torch.where(VALID, TOKENS, 255)
    log_probs = LOGITS.double().log_softmax(1)
    wanted = [-log_probs[b, labels[b, y, x], y, x] for b, y, x in VALID.nonzero().tolist()]
    assert pixel_loss(LOGITS, labels).item() == pytest.approx(torch.stack(wanted).mean().item(), rel=1e-5)


def test_pixel_loss_without_a_labelled_pixel_is_zero_with_zero_gradient():
    logits = LOGITS.clone().requires_grad_()
    loss = pixel_loss(logits, torch.full_like(TOKENS, 255))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_pixel_loss_of_certain_and_right_scores_is_zero():
    assert pixel_loss(certain(TOKENS), TOKENS).item() == 0


def test_reconstruction_is_the_mean_squared_distance_of_colours():
    first, second = torch.rand(2, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).double()
    expected = (first - second).norm(dim=1).square().mean()
    assert reconstruction_loss(first, second).item() == pytest.approx(expected.item())
    assert reconstruction_loss(first, first).item() == 0


def test_weights_say_what_each_class_counts():
    weights = torch.rand(7, generator=torch.Generator().manual_seed(3)) + 0.5
    log_probs, labels = LOGITS.double().log_softmax(1), torch.where(VALID, TOKENS, 255)
    wanted = [-weights[TOKENS[b, y, x]] * log_probs[b, TOKENS[b, y, x], y, x] for b, y, x in VALID.nonzero().tolist()]
    expected = torch.stack(wanted).mean().item()
    assert pixel_loss(LOGITS, labels, weights).item() == pytest.approx(expected, rel=1e-5)


WEIGHTS = torch.tensor([0.2, 1.0, 3.0, 0.5, 2.0, 1.5, 0.1])


def test_mistakes_cost_what_both_classes_weigh_in_the_mean_over_labelled_pixels():
    labels = torch.where(VALID, TOKENS, 255)
    probs, weights = LOGITS.double().softmax(1).numpy(), WEIGHTS.double().numpy()
    costs = [
        sum(probs[b, j, y, x] * (weights[k] + weights[j]) for j in range(7) if j != k)
        for (b, y, x), k in np.ndenumerate(labels.numpy())
        if k != 255
    ]
    assert mistake_loss(LOGITS, labels, WEIGHTS).item() == pytest.approx(np.mean(costs), rel=1e-5)


def test_certain_and_right_costs_nothing_and_unlabelled_neither():
    scores = certain(TOKENS).clamp(min=-1000)
    assert mistake_loss(scores, TOKENS, WEIGHTS).item() == pytest.approx(0, abs=1e-6)
    logits = LOGITS.clone().requires_grad_()
    loss = mistake_loss(logits, torch.full_like(TOKENS, 255), WEIGHTS)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()
