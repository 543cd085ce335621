from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from gss.token_model.masked import MaskedTokenTransformer, random_masks, share_masked
from gss.token_model.sampling import fill_in, permuted_across_grids, permuted_within_grids

GRID = (4, 6)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def unknown(num, model):
    return torch.full((num, *model.grid), model.mask_token)


@pytest.fixture
def model():
    """An untrained network for grids of 4x6 tokens out of 5."""
    torch.manual_seed(0)
    return MaskedTokenTransformer(5, GRID, width=16, depth=1, heads=2).eval()


SMALL = (3, 4)


def checkerboards(num):
    """Half of them with 0 in the corner, half with 1; the codes 2 to 4 never occur."""
    rows, columns = torch.meshgrid(torch.arange(SMALL[0]), torch.arange(SMALL[1]), indexing="ij")
    return torch.stack([(rows + columns + number) % 2 for number in range(num)])


@pytest.fixture(scope="module")
def trained():
    """A network that has seen checkerboards with random masks."""
    torch.manual_seed(0)
    model = MaskedTokenTransformer(5, SMALL, width=32, depth=1, heads=2, dropout=0.0)
    optimizer, noise = torch.optim.AdamW(model.parameters(), lr=5e-3), generator()
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, 200)
    for _ in range(200):
        tokens, masked = checkerboards(16), random_masks(16, SMALL, noise)
        logits = model(tokens.masked_fill(masked, model.mask_token)).movedim(1, -1)
        nn.functional.cross_entropy(logits[masked], tokens[masked]).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return model.eval()


def test_a_learned_distribution_is_drawn_from(trained):
    sampled = fill_in(trained, unknown(60, trained), generator(), steps=12, randomness=1.0)
    valid = (sampled[:, None] == checkerboards(2)).flatten(2).all(2)  # by chance twice in 5^12
    assert valid.any(1).float().mean() > 0.4
    assert valid.any(0).all()  # both occur


def test_one_token_decides_all_others(trained):
    tokens = unknown(2, trained)
    tokens[0, 2, 3], tokens[1, 2, 3] = 1, 0  # the corner opposite to the one that they are named by
    sampled = fill_in(trained, tokens, generator(), steps=6, randomness=1.0)
    assert (sampled == checkerboards(2)).float().mean() > 0.9


def test_known_tokens_stay_and_the_others_are_all_drawn(model):
    tokens = torch.randint(5, (6, *GRID), generator=generator())
    masked = torch.rand(tokens.shape, generator=generator()) < torch.linspace(0, 1, 6)[:, None, None]
    for steps in (1, 2, 7, 40):
        sampled = fill_in(model, tokens.masked_fill(masked, model.mask_token), generator(), steps=steps)
        assert sampled[~masked].equal(tokens[~masked])
        assert sampled.max() < 5


def test_the_given_grids_are_not_written_to(model):
    tokens = unknown(2, model)
    fill_in(model, tokens, generator())
    assert tokens.equal(unknown(2, model))


def test_a_seed_decides(model):
    first, again, other = (fill_in(model, unknown(4, model), generator(seed)) for seed in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)


class Watched(nn.Module):
    """Scores that do not depend on anything, and a note of how much was masked in each step."""

    def __init__(self, probs):
        super().__init__()
        self.probs, self.grid, self.mask_token, self.masked = probs, GRID, len(probs), []

    def forward(self, tokens):
        self.masked.append((tokens == self.mask_token).flatten(1).sum(1).tolist())
        return self.probs.log()[None, :, None, None].expand(len(tokens), -1, *GRID)


def test_the_cosine_schedule_is_followed():
    model = Watched(torch.tensor([0.5, 0.5]))
    tokens = unknown(2, model)
    tokens[1, :2] = 0  # half of the second grid is known
    fill_in(model, tokens, generator(), steps=5)
    expected = [[math.floor(math.cos(math.pi / 2 * step / 5) * missing) for missing in (24, 12)] for step in range(5)]
    assert model.masked == expected


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_temperature_sharpens_or_flattens(temperature):
    probs = np.array([0.7, 0.2, 0.1])
    sampled = fill_in(Watched(torch.tensor(probs)), torch.full((100, *GRID), 3), generator(), 1, temperature)
    expected = probs ** (1 / temperature) / (probs ** (1 / temperature)).sum()
    shares = np.bincount(sampled.flatten().numpy(), minlength=3) / sampled.numel()
    np.testing.assert_allclose(shares, expected, atol=0.03)  # 2400 draws: three standard deviations


def test_the_surest_are_settled_first_without_randomness():
    model = Watched(torch.tensor([0.9, 0.1]))
    seen = []
    model.register_forward_pre_hook(lambda module, given: seen.append(given[0].clone()))
    fill_in(model, torch.full((50, *GRID), 2), generator(), steps=2, randomness=0.0)
    settled = seen[1][seen[1] != 2]  # 0.9 comes before 0.1 wherever there are enough
    assert (settled == 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps=0: sampling takes at least 1 step"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
        ({"temperature": math.nan}, "temperature=nan must be above 0"),
        ({"randomness": -1.0}, "randomness=-1.0 must be at least 0"),
    ],
)
def test_numbers_out_of_range_are_refused(model, settings, message):
    with pytest.raises(ValueError, match=message):
        fill_in(model, unknown(1, model), generator(), **settings)


def test_masks_cover_every_share_and_at_least_one_token():
    masks = random_masks(4000, GRID, generator())
    shares = masks.flatten(1).float().mean(1)
    assert masks.flatten(1).any(1).all()
    uniform = np.random.default_rng(0).random(100_000)
    expected = np.ceil(np.cos(uniform * np.pi / 2) * 24).mean() / 24
    assert shares.mean().item() == pytest.approx(expected, abs=0.02)
    assert masks.float().mean(0).std() < 0.03  # no place is preferred


def test_the_schedule_runs_from_everything_to_nothing():
    assert share_masked(0.0) == 1
    assert share_masked(1.0).abs() < 1e-6
    assert share_masked(2 / 3).item() == pytest.approx(0.5)


def test_controls_keep_what_they_should():
    tokens = torch.randint(50, (9, *GRID), generator=generator())
    within, across = permuted_within_grids(tokens, generator()), permuted_across_grids(tokens, generator())
    assert not within.equal(tokens)
    assert not across.equal(tokens)
    assert within.flatten(1).sort(1).values.equal(tokens.flatten(1).sort(1).values)
    assert across.sort(0).values.equal(tokens.sort(0).values)
