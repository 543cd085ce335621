"""Labels by bounds on class probabilities are those of the full means."""

from __future__ import annotations

import pytest
import torch

from gss.networks import token_scores
from gss.networks.token_scores import TokenScores, Vocabulary, first_largest

V, K, SIDE = 40, 5, 3


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scores(sharpness: float, vocabulary: Vocabulary | None = None) -> TokenScores:
    rows = V if vocabulary is None else len(vocabulary)
    return TokenScores(sharpness * draw(2, 6, 7, 8, seed=1), draw(rows, 8, seed=2), draw(rows, seed=3), vocabulary)


def classes(softness: float) -> torch.Tensor:
    """(V, K, 3, 3): tokens that show one class with a little of the others, or all alike."""
    return (draw(V, K, SIDE, SIDE, seed=4) + 6 * draw(V, K, 1, 1, seed=5)).div(softness).softmax(dim=1)


def bounds(probs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return probs.flatten(2).amin(2).T, probs.flatten(2).amax(2).T


def full(of: TokenScores, probs: torch.Tensor) -> torch.Tensor:
    """Means of all classes, dense and in double precision, (B, h, w, K, 9)."""
    shares = (of.features.double() @ of.weight.double().T + of.bias.double()).softmax(dim=-1)
    tokens = slice(None) if of.vocabulary is None else of.vocabulary.tokens
    return torch.einsum("bhwv,vkp->bhwkp", shares, probs[tokens].flatten(2).double())


@pytest.mark.parametrize("sharpness", [0.0, 0.3, 1.0, 5.0])
@pytest.mark.parametrize("softness", [0.2, 1.0, 10.0])
def test_the_likeliest_class_is_that_of_the_full_means(sharpness, softness):
    of, probs = scores(sharpness), classes(softness)
    expected = full(of, probs)
    found = of.likeliest_classes(probs, *bounds(probs))
    assert found.dtype == torch.int64
    best, second = expected.topk(2, dim=3).values.unbind(3)
    clear = best - second > 1e-5
    assert clear.float().mean() > 0.9
    assert found[clear].equal(expected.argmax(3)[clear])


def test_cells_that_are_sure_and_cells_that_are_not_both_occur():
    """The case above would prove little if bounds decided every cell, or none."""
    of, probs = scores(1.0), classes(1.0)
    shares = of.logits().movedim(1, -1).softmax(-1)
    sure = (shares @ bounds(probs)[0].T).amax(-1) > 0.5
    assert 0.1 < sure.float().mean() < 0.9


def test_a_cell_between_two_classes_is_read_pixel_by_pixel():
    """Two tokens of equal share: class 0 above and 1 below, and class 2 everywhere but a little less than certain."""
    probs = torch.zeros(2, 3, 2, 2)
    probs[0, 0, 0], probs[0, 1, 1] = 1, 1
    probs[1, 2], probs[1, 1] = 0.9, 0.1
    of = TokenScores(torch.zeros(1, 1, 1, 1), torch.zeros(2, 1), torch.zeros(2))
    assert of.likeliest_classes(probs, *bounds(probs)).flatten().tolist() == [0, 0, 1, 1]


def test_a_head_with_fewer_rows_names_the_same_classes():
    kept = torch.arange(0, V, 2)
    of, probs = scores(1.0, Vocabulary(kept, torch.arange(V) // 2)), classes(1.0)
    assert of.likeliest_classes(probs, *bounds(probs)).equal(full(of, probs).argmax(3))


def test_chunks_change_nothing(monkeypatch):
    of, probs = scores(0.5), classes(1.0)
    whole = of.likeliest_classes(probs, *bounds(probs))
    monkeypatch.setattr(token_scores, "CHUNK", 3 * V)
    assert of.likeliest_classes(probs, *bounds(probs)).equal(whole)


@pytest.mark.parametrize("width", [5, 64, 96])
def test_the_first_of_equal_scores_is_the_largest(width):
    drawn = (2 * draw(50, width)).round()  # many are equal
    expected = [max(range(width), key=row.__getitem__) for row in drawn.tolist()]
    assert first_largest(drawn).tolist() == expected


def test_mixed_precision_stops_at_the_scores():
    """Bounds and means of 8 bits would differ from those of the scores by far more than a tie."""
    of, probs = scores(1.0), classes(1.0)
    with torch.autocast("cpu", torch.bfloat16):
        found, shares = of.likeliest_classes(probs, *bounds(probs)), of.logits().float().movedim(1, -1).softmax(-1)
    means = torch.einsum("bhwv,vkp->bhwkp", shares.double(), probs.flatten(2).double())
    best, second = means.topk(2, dim=3).values.unbind(3)
    clear = best - second > 1e-5
    assert clear.float().mean() > 0.9
    assert found[clear].equal(means.argmax(3)[clear])
