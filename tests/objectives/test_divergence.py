"""The chunked divergence against torch's dense cross-entropy and KL divergence, values and gradients."""

from __future__ import annotations

import math

import pytest
import torch

import gss.networks.token_scores
from gss.networks.token_scores import TokenScores, Vocabulary
from gss.objectives.divergence import focal_divergence, token_divergence
from gss.objectives.targets import TokenTargets

SHAPE, VOCAB, WIDTH = (2, 3, 4), 7, 5


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layered(dtype=torch.float32):
    """Scores of a hidden layer of six channels, with weights that want gradients."""
    parts = draw(*SHAPE, WIDTH), draw(VOCAB, 6, seed=1), draw(VOCAB, seed=2), draw(6, WIDTH, seed=3), draw(6, seed=4)
    features, weight, bias, *hidden = (part.to(dtype).requires_grad_() for part in parts)
    return TokenScores(features, weight, bias, hidden=tuple(hidden))


def all_parts(of):
    return (of.features, of.weight, of.bias, *(of.hidden or ()))


TOKENS = torch.randint(VOCAB, SHAPE, generator=torch.Generator().manual_seed(1))
VALID = torch.rand(SHAPE, generator=torch.Generator().manual_seed(2)) > 0.3
LOGITS = draw(2, VOCAB, 3, 4)
WEIGHTS = torch.rand(VOCAB, generator=torch.Generator().manual_seed(3)) + 0.5


@pytest.fixture(params=["one chunk", "many chunks"], autouse=True)
def chunks(request, monkeypatch):
    """Five cells at a time, the last chunk shorter; or all at once."""
    if request.param == "many chunks":
        monkeypatch.setattr(gss.networks.token_scores, "CHUNK", 5 * VOCAB)


def scores(dtype=torch.float32, seed=0):
    """Scores with weights that want gradients."""
    parts = draw(*SHAPE, WIDTH, seed=seed), draw(VOCAB, WIDTH, seed=seed + 1), draw(VOCAB, seed=seed + 2)
    return TokenScores(*(part.to(dtype).requires_grad_() for part in parts))


def spread(k=3):
    """A posterior over k distinct candidates of each cell, the token first."""
    order = draw(*SHAPE, VOCAB, seed=9).scatter(-1, TOKENS[..., None], math.inf).argsort(dim=-1, descending=True)
    shares = draw(*SHAPE, k, seed=10).softmax(-1).sort(dim=-1, descending=True).values
    return TokenTargets(TOKENS, VALID, (order[..., :k], shares))


def dense(of, targets, token_weights=None, focal=0.0):
    """The definition: KL(q || p) of every valid cell by torch, all scores at once, in float64."""
    entered = of.features.double()
    if of.hidden is not None:
        entered = (entered @ of.hidden[0].double().T + of.hidden[1].double()).relu()
    log_probs = (entered @ of.weight.double().T + of.bias.double()).log_softmax(-1)
    posterior = torch.zeros_like(log_probs).scatter(-1, targets.candidates, targets.shares.double())
    divergence = torch.nn.functional.kl_div(log_probs, posterior, reduction="none").sum(-1)
    counts = torch.ones(VOCAB) if token_weights is None else token_weights
    cells = counts.double()[targets.tokens] * (1 - (-divergence).exp()) ** focal * divergence
    return cells[targets.token_valid].sum() / targets.token_valid.sum()


def gradients(loss, of):
    return torch.autograd.grad(loss, all_parts(of))


CASES = {
    "one-hot": (TokenTargets(TOKENS, VALID), None, 0.0),
    "weighted": (TokenTargets(TOKENS, VALID), WEIGHTS, 0.0),
    "soft": (spread(), None, 0.0),
    "focal": (TokenTargets(TOKENS, VALID), None, 2.0),
    "soft, weighted and focal": (spread(), WEIGHTS, 1.5),
}


@pytest.mark.parametrize("head", [scores, layered])
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients_are_those_of_the_dense_form(case, head):
    of, arguments = head(), CASES[case]
    ours, theirs = token_divergence(of, *arguments), dense(of, *arguments)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    for made, wanted in zip(gradients(ours, of), gradients(theirs, of), strict=True):
        assert (made - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_beside_a_focal_loss_stands_the_divergence_without_gradients(case):
    of, (targets, token_weights, focal) = scores(), CASES[case]
    loss, plain = focal_divergence(of, targets, token_weights, focal)
    assert loss.equal(token_divergence(of, targets, token_weights, focal))
    assert plain.item() == pytest.approx(dense(of, targets, token_weights).item(), rel=1e-5)
    assert not plain.requires_grad


def test_doubles_are_computed_in_double():
    of, targets = layered(torch.float64), TokenTargets(TOKENS, VALID)
    for made, wanted in zip(
        gradients(token_divergence(of, targets), of), gradients(dense(of, targets), of), strict=True
    ):
        torch.testing.assert_close(made, wanted, rtol=1e-10, atol=1e-12)


def test_torch_s_own_chunked_cross_entropy_agrees():
    if not hasattr(torch.nn.functional, "linear_cross_entropy"):
        pytest.skip("torch before 2.15 has no linear_cross_entropy")
    of, target = scores(), torch.where(VALID, TOKENS, -100).flatten()
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=5)
    theirs = torch.nn.functional.linear_cross_entropy(
        of.features.flatten(0, 2), of.weight, target, linear_bias=of.bias, ignore_index=-100, options=options
    )
    wanted = gradients(theirs, of)
    ours = token_divergence(of, TokenTargets(TOKENS, VALID))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    for made, other in zip(gradients(ours, of), wanted, strict=True):
        torch.testing.assert_close(made, other, rtol=1e-5, atol=1e-6)


def test_gradients_are_handed_out_once():
    """They are scaled in place, so a second pass would scale them twice; torch notices."""
    of = scores()
    loss = token_divergence(of, TokenTargets(TOKENS, VALID))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_one_hot_posterior_gives_torch_s_cross_entropy():
    of = scores()
    target = torch.where(VALID, TOKENS, -100)
    expected = torch.nn.functional.cross_entropy(of.logits(), target)
    assert token_divergence(of, TokenTargets(TOKENS, VALID)).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("head", [scores, layered])
@pytest.mark.parametrize("case", CASES)
def test_bfloat16_products_come_close_and_keep_the_types_of_the_weights(case, head):
    of, arguments = head(), CASES[case]
    with torch.autocast("cpu", torch.bfloat16):
        ours = token_divergence(of, *arguments)
    theirs = dense(of, *arguments)
    assert ours.dtype == torch.float32
    assert ours.item() == pytest.approx(theirs.item(), rel=0.02)
    for made, wanted in zip(gradients(ours, of), gradients(theirs, of), strict=True):
        assert made.dtype == torch.float32
        assert (made - wanted).abs().max() < 0.02 * wanted.abs().max() + 1e-3


def test_float16_runs_multiply_in_float32():
    """Gradients are made before the scaler can lift them into float16's range."""
    of, targets = scores(), TokenTargets(TOKENS, VALID)
    with torch.autocast("cpu", torch.float16):
        ours = token_divergence(of, targets)
    assert ours.equal(token_divergence(of, targets))


def test_a_scaled_loss_has_scaled_gradients():
    of, targets = scores(), TokenTargets(TOKENS, VALID)
    plain = gradients(token_divergence(of, targets), of)
    for scaled, single in zip(gradients(3 * token_divergence(of, targets), of), plain, strict=True):
        torch.testing.assert_close(scaled, 3 * single)


def test_the_divergence_is_exactly_zero_when_the_prior_is_the_posterior():
    certain = 1000.0 * torch.nn.functional.one_hot(TOKENS, VOCAB).movedim(-1, 1)
    assert token_divergence(TokenScores.from_logits(certain), TokenTargets(TOKENS, VALID)).item() == 0
    targets = spread()
    posterior = torch.full((*SHAPE, VOCAB), -1000.0).scatter(-1, targets.candidates, targets.shares.log())
    alike = TokenScores.from_logits(posterior.movedim(-1, 1))
    assert token_divergence(alike, targets).item() == pytest.approx(0, abs=1e-6)


def test_the_divergence_of_a_uniform_prior_is_the_log_of_the_vocabulary():
    uniform = TokenScores.from_logits(torch.full_like(LOGITS, 3.0))
    assert token_divergence(uniform, TokenTargets(TOKENS, VALID)).item() == pytest.approx(math.log(VOCAB), rel=1e-6)


def test_candidates_without_a_share_do_not_count_however_unlikely():
    logits = LOGITS.clone()
    logits[:, 6] = -1e30
    targets = TokenTargets(TOKENS % 6, VALID)
    candidates = torch.stack([TOKENS % 6, torch.full_like(TOKENS, 6)], dim=-1)
    shares = torch.tensor([1.0, 0.0]).expand(*SHAPE, 2)
    of = TokenScores.from_logits(logits)
    given = token_divergence(of, TokenTargets(TOKENS % 6, VALID, (candidates, shares)))
    assert given.item() == pytest.approx(token_divergence(of, targets).item())


def test_ignored_tokens_do_not_matter():
    of, other = scores(), torch.where(VALID, TOKENS, (TOKENS + 1) % VOCAB)
    loss = token_divergence(of, TokenTargets(other, VALID))
    assert loss.item() == token_divergence(of, TokenTargets(TOKENS, VALID)).item()
    gradient = gradients(loss, of)[0]
    assert (gradient[~VALID] == 0).all()
    assert (gradient[VALID] != 0).any(-1).all()


def test_nothing_valid_costs_nothing_and_its_gradient_is_zero():
    of = scores()
    loss = token_divergence(of, TokenTargets(TOKENS, torch.zeros_like(VALID)))
    assert loss.item() == 0
    assert all((gradient == 0).all() for gradient in gradients(loss, of))


@pytest.mark.parametrize(("token", "found"), [(7, "to 7"), (-1, "from -1")])
def test_tokens_outside_the_vocabulary_are_refused(token, found):
    tokens = TOKENS.clone()
    tokens[0, 0, 0] = token
    with pytest.raises(ValueError, match=rf"tokens reach .*{found}.*vocabulary of 7.*prior=PATH"):
        token_divergence(scores(), TokenTargets(tokens, VALID))


@pytest.mark.parametrize("head", [scores, layered])
def test_the_likeliest_token_and_the_expected_entry_are_those_of_the_dense_form(head):
    of, table = head(), draw(VOCAB, 6, seed=20)
    entered = of.features if of.hidden is None else (of.features @ of.hidden[0].T + of.hidden[1]).relu()
    logits = entered @ of.weight.T + of.bias
    torch.testing.assert_close(of.logits(), logits.movedim(-1, 1))
    assert of.likeliest().equal(logits.argmax(-1))
    expected = (logits.softmax(-1) @ table).movedim(-1, 1)
    torch.testing.assert_close(of.expected([(None, table)]), expected)
    with torch.no_grad():
        torch.testing.assert_close(of.expected([(None, table)]), expected)
    pull = draw(*expected.shape, seed=21)
    for made, wanted in zip(
        gradients((of.expected([(None, table)]) * pull).sum(), of), gradients((expected * pull).sum(), of), strict=True
    ):
        torch.testing.assert_close(made, wanted, atol=1e-5, rtol=1e-5)


def test_a_head_with_fewer_rows_speaks_of_the_same_tokens():
    """Rows stand for tokens 0, 2, 3 and 6 of 9; the others go to the row of one of these."""
    kept = torch.tensor([0, 2, 3, 6])
    vocabulary = Vocabulary(kept, torch.tensor([0, 1, 1, 2, 2, 2, 3, 3, 0]))
    whole, tokens = scores(), torch.tensor([0, 1, 2, 3, 5, 6, 7, 8, 4, 2, 3, 0] * 2).view(SHAPE)
    few = TokenScores(whole.features, whole.weight[:4], whole.bias[:4], vocabulary)
    rows = TokenScores(whole.features, whole.weight[:4], whole.bias[:4])
    assert few.vocab_size == 9
    meant = TokenTargets(vocabulary.rows[tokens], VALID)
    assert token_divergence(few, TokenTargets(tokens, VALID)).item() == token_divergence(rows, meant).item()
    assert few.likeliest().equal(kept[rows.likeliest()])
    table = draw(9, 6)
    torch.testing.assert_close(few.expected([(None, table)]), rows.expected([(None, table[kept])]))


def test_candidates_that_share_a_row_are_one():
    """Of 9 tokens 4 have a row, so that of three candidates two or three may mean the same one."""
    vocabulary = Vocabulary(torch.tensor([0, 2, 3, 6]), torch.tensor([0, 1, 1, 2, 2, 2, 3, 3, 0]))
    whole = scores()
    few = TokenScores(whole.features, whole.weight[:4], whole.bias[:4], vocabulary)
    candidates = torch.stack([TOKENS, (TOKENS + 1) % 9, (TOKENS + 2) % 9], dim=-1)
    shares = draw(*SHAPE, 3, seed=10).softmax(-1)
    posterior = torch.zeros(*SHAPE, 4).scatter_add(-1, vocabulary.rows[candidates], shares)[VALID]
    log_probs = few.logits().movedim(1, -1)[VALID].log_softmax(-1)
    expected = torch.nn.functional.kl_div(log_probs, posterior, reduction="none").sum() / VALID.sum()
    found = token_divergence(few, TokenTargets(TOKENS, VALID, (candidates, shares)))
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    for made, wanted in zip(gradients(found, whole), gradients(expected, whole), strict=True):
        torch.testing.assert_close(made, wanted, atol=1e-6, rtol=1e-4)


def test_a_token_with_a_row_has_to_come_back_from_it():
    with pytest.raises(ValueError, match="of 2 tokens with a row of their own, not every one comes back"):
        Vocabulary(torch.tensor([0, 2]), torch.tensor([0, 1, 0]))
