from __future__ import annotations

import pytest
import torch

from gss.networks.heads import CodeTiedTokenHead, TiedTokenHead, standardised


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_columns_have_mean_0_and_variance_1():
    table = standardised(3 + draw(50, 4) * torch.tensor([1.0, 2.0, 5.0, 0.1]))
    torch.testing.assert_close(table.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(table.var(0, correction=0), torch.ones(4), atol=1e-4, rtol=0)


def test_a_column_that_says_nothing_stays_silent():
    table = torch.cat([draw(50, 1), 7 + 1e-7 * draw(50, 1, seed=1)], dim=1)
    assert standardised(table)[:, 1].abs().max() < 1e-2
    assert standardised(torch.full((5, 2), 0.3)).abs().max() < 1e-2


def test_scores_are_the_product_with_the_standardised_code():
    """score_t(cell) = 8 / C sum over columns c of (W f)_c * code_t(c), plus b_t."""
    table, log_frequency, features = draw(7, 3), draw(7, seed=1).log_softmax(0), draw(2, 5, 4, 6, seed=2)
    head = CodeTiedTokenHead(5, table, log_frequency)
    codes = (table - table.mean(0)) / table.std(0, correction=0)
    expected = 8 / 3 * torch.einsum("tc,cd,bdhw->bthw", codes, head.evidence, features)
    expected = expected + log_frequency[:, None, None]
    torch.testing.assert_close(head(features).logits(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("width", [3, 704])
def test_scores_of_unit_features_begin_with_variance_1_around_the_log_frequencies(width):
    torch.manual_seed(0)
    head = CodeTiedTokenHead(64, draw(400, width), torch.full((400,), -6.0))
    scores = head(draw(1, 64, 20, 20, seed=1)).logits() + 6
    assert scores.mean().abs() < 0.2
    assert 0.5 < scores.var() < 2


def test_one_step_of_adam_moves_scores_about_as_far_as_those_of_the_other_tie():
    features, moved = draw(1, 64, 8, 8), []
    for head in (
        CodeTiedTokenHead(64, draw(100, 16), torch.zeros(100)),
        TiedTokenHead(64, draw(100, 5, 4, 4).mul(4).softmax(1), torch.zeros(100)),
    ):
        before = head(features).logits()
        before[:, 3].sum().backward()
        torch.optim.Adam([head.evidence], lr=1e-3).step()
        moved.append((head(features).logits() - before).abs()[:, 3].mean().item())
    assert 0.3 < moved[0] / moved[1] < 3


def test_the_codes_are_neither_trained_nor_saved():
    head = CodeTiedTokenHead(5, draw(7, 3), torch.zeros(7))
    assert {name for name, _ in head.named_parameters()} == set(head.state_dict()) == {"evidence", "bias"}


def test_pixel_evidence_is_that_of_the_other_tie():
    decoded, class_scores, features = draw(7, 3, 4, 4).softmax(1), draw(2, 3, 5, 6), torch.zeros(2, 5, 5, 6)
    ours = CodeTiedTokenHead(5, draw(7, 9), torch.zeros(7), decoded)
    theirs = TiedTokenHead(5, decoded, torch.zeros(7), pixel_evidence=True)
    torch.testing.assert_close(ours(features, class_scores).logits(), theirs(features, class_scores).logits())
