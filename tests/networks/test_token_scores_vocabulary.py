"""Heads with rows for some tokens only: what they say of those is what the whole head says of them."""

from __future__ import annotations

import pytest
import torch

from gss.networks.heads import CodeTiedTokenHead, FreeTokenHead, TiedTokenHead
from gss.networks.token_scores import Vocabulary
from gss.objectives.divergence import token_divergence
from gss.objectives.targets import TokenTargets

KEPT = torch.tensor([0, 2, 3, 7])
ROWS = torch.tensor([0, 0, 1, 2, 3, 3, 2, 3, 0])
VOCAB = len(ROWS)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def heads(vocabulary):
    """One of each kind."""
    decoded, table, usage = draw(VOCAB, 3, 4, 4).softmax(1), draw(VOCAB, 6), draw(VOCAB).log_softmax(0)
    return {
        "free": FreeTokenHead(5, VOCAB, 8, vocabulary),
        "decoded": TiedTokenHead(5, decoded, usage, pixel_evidence=True, vocabulary=vocabulary),
        "codes": CodeTiedTokenHead(5, table, usage, decoded, vocabulary),
    }


def whole_and_reduced(kind):
    """The same weights in a head for all tokens and in one for those kept."""
    whole, reduced = heads(None)[kind].eval(), heads(Vocabulary(KEPT, ROWS))[kind].eval()
    state = whole.state_dict()
    for name in ("scores.weight", "scores.bias", "bias"):
        if name in state:
            state[name] = state[name][KEPT]
    reduced.load_state_dict({**state, "vocabulary.tokens": KEPT, "vocabulary.rows": ROWS})
    return whole, reduced


def test_every_kept_token_comes_back_from_its_row():
    vocabulary = Vocabulary(KEPT, ROWS)
    assert vocabulary.tokens[vocabulary.rows[KEPT]].equal(KEPT)
    assert len(vocabulary) == 4
    assert vocabulary.has_row(torch.arange(VOCAB)).nonzero()[:, 0].equal(KEPT)


def test_a_mapping_that_loses_a_token_is_refused():
    with pytest.raises(ValueError, match="of 4 tokens with a row of their own, not every one comes back"):
        Vocabulary(KEPT, ROWS.roll(1))


@pytest.mark.parametrize("kind", ["free", "decoded", "codes"])
def test_scores_are_those_of_the_whole_head_in_the_kept_rows(kind):
    whole, reduced = whole_and_reduced(kind)
    features, class_scores = draw(2, 5, 3, 4), draw(2, 3, 3, 4, seed=1)
    expected, made = whole(features, class_scores), reduced(features, class_scores)
    torch.testing.assert_close(made.logits(), expected.logits()[:, KEPT])
    assert made.vocab_size == VOCAB
    likeliest = KEPT[expected.logits()[:, KEPT].argmax(1)]
    assert made.likeliest().equal(likeliest)
    table = draw(VOCAB, 2, seed=2)
    mean = torch.einsum("bthw,tc->bchw", expected.logits()[:, KEPT].softmax(1), table[KEPT])
    torch.testing.assert_close(made.expected([(None, table)]), mean)
    first, second = torch.tensor([0, 1, 3]), torch.tensor([2, 3, 4])  # tokens that the columns' blocks have
    table[:, 0] *= torch.zeros(VOCAB).index_fill(0, first, 1)
    table[:, 1] *= torch.zeros(VOCAB).index_fill(0, second, 1)
    blocks = [(first, table[first, :1]), (second, table[second, 1:])]
    torch.testing.assert_close(made.expected(blocks), made.expected([(None, table)]))


@pytest.mark.parametrize("kind", ["free", "decoded", "codes"])
def test_the_loss_is_that_of_the_whole_head_restricted_to_the_kept_rows(kind):
    """A token without a row counts as the kept one that stands for it; weights stay those of the token itself."""
    whole, reduced = whole_and_reduced(kind)
    features, class_scores = draw(2, 5, 3, 4), draw(2, 3, 3, 4, seed=1)
    tokens = torch.randint(VOCAB, (2, 3, 4), generator=torch.Generator().manual_seed(3))
    weights = torch.rand(VOCAB, generator=torch.Generator().manual_seed(4)) + 0.5
    assert not Vocabulary(KEPT, ROWS).has_row(tokens).all()
    restricted = whole(features, class_scores).logits()[:, KEPT]
    cells = torch.nn.functional.cross_entropy(restricted, ROWS[tokens], reduction="none")
    targets = TokenTargets(tokens, torch.ones(2, 3, 4, dtype=torch.bool))
    made = token_divergence(reduced(features, class_scores), targets, weights)
    assert made.item() == pytest.approx((weights[tokens] * cells).mean().item(), rel=1e-5)


def test_a_state_dict_says_itself_which_tokens_have_rows():
    state = {f"network.{name}": tensor for name, tensor in whole_and_reduced("free")[1].state_dict().items()}
    held = Vocabulary.held_in(state, "network.vocabulary.")
    assert held.tokens.equal(KEPT)
    assert held.rows.equal(ROWS)
    assert Vocabulary.held_in(state, "network.") is None
