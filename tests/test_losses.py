from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gss.losses import mistake_loss, pixel_loss, reconstruction_loss, token_divergence

LOGITS = torch.randn(2, 7, 3, 4, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randint(7, (2, 3, 4), generator=torch.Generator().manual_seed(1))
VALID = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(2)) > 0.3


def certain(tokens, vocab_size=7):
    """Scores of a prior that puts all its mass on the given tokens."""
    return torch.where(torch.nn.functional.one_hot(tokens, vocab_size).movedim(-1, 1) == 1, 0.0, -math.inf)


def test_divergence_is_kl_from_the_one_hot_posterior_averaged_over_valid_tokens():
    posterior = torch.nn.functional.one_hot(TOKENS, 7).movedim(-1, 1).double()
    log_prior = LOGITS.double().log_softmax(1)
    pointwise = torch.nn.KLDivLoss(reduction="none")(log_prior, posterior).sum(1)
    expected = pointwise[VALID].sum() / VALID.sum()
    assert token_divergence(LOGITS, TOKENS, VALID).item() == pytest.approx(expected.item(), rel=1e-5)


def test_divergence_is_exactly_zero_when_the_prior_is_the_posterior():
    assert token_divergence(certain(TOKENS), TOKENS, VALID).item() == 0
    finite = certain(TOKENS).clamp(min=-1000)  # what a network can say
    assert token_divergence(finite, TOKENS, VALID).item() == 0


def test_divergence_of_a_uniform_prior_is_the_log_of_the_vocabulary():
    uniform = torch.full_like(LOGITS, 3.0)
    assert token_divergence(uniform, TOKENS, VALID).item() == pytest.approx(math.log(7), rel=1e-6)


def test_ignored_tokens_do_not_matter():
    other = torch.where(VALID, TOKENS, (TOKENS + 1) % 7)
    logits = LOGITS.clone().requires_grad_()
    loss = token_divergence(logits, other, VALID)
    loss.backward()
    assert loss.item() == token_divergence(LOGITS, TOKENS, VALID).item()
    assert (logits.grad.movedim(1, -1)[~VALID] == 0).all()
    assert (logits.grad.movedim(1, -1)[VALID] != 0).any(-1).all()


def test_nothing_valid_costs_nothing_and_its_gradient_is_zero():
    logits = LOGITS.clone().requires_grad_()
    loss = token_divergence(logits, TOKENS, torch.zeros_like(VALID))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize(("token", "found"), [(7, "to 7"), (-1, "from -1")])
def test_tokens_outside_the_vocabulary_are_refused(token, found):
    tokens = TOKENS.clone()
    tokens[0, 0, 0] = token
    with pytest.raises(ValueError, match=rf"tokens reach .*{found}.*vocabulary of 7.*prior=PATH"):
        token_divergence(LOGITS, tokens, VALID)


def test_half_precision_scores_are_measured_in_full_precision():
    loss = token_divergence(LOGITS.bfloat16(), TOKENS, VALID)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(token_divergence(LOGITS.bfloat16().float(), TOKENS, VALID).item())


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


def test_weights_say_what_each_class_and_each_token_counts():
    weights = torch.rand(7, generator=torch.Generator().manual_seed(3)) + 0.5
    log_probs, labels = LOGITS.double().log_softmax(1), torch.where(VALID, TOKENS, 255)
    wanted = [-weights[TOKENS[b, y, x]] * log_probs[b, TOKENS[b, y, x], y, x] for b, y, x in VALID.nonzero().tolist()]
    expected = torch.stack(wanted).mean().item()
    assert token_divergence(LOGITS, TOKENS, VALID, weights).item() == pytest.approx(expected, rel=1e-5)
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
