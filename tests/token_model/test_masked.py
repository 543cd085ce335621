from __future__ import annotations

import numpy as np
import pytest
import torch

from gss.token_model import build_token_model
from gss.token_model.masked import MaskedTokenTransformer


@pytest.fixture
def model():
    """A narrow network for grids of 3x5 tokens out of 7, and one that masks."""
    torch.manual_seed(0)
    return MaskedTokenTransformer(7, (3, 5), width=16, depth=2, heads=2).eval()


def test_every_code_is_scored_at_every_cell(model):
    tokens = torch.randint(8, (2, 3, 5))
    logits = model(tokens)
    assert logits.shape == (2, 7, 3, 5)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(model.scores(model.features(tokens)).movedim(-1, 1), logits)


def test_grids_do_not_see_each_other(model):
    tokens = torch.randint(8, (3, 3, 5))
    alone = torch.cat([model(grid[None]) for grid in tokens])
    torch.testing.assert_close(model(tokens), alone, atol=1e-5, rtol=1e-4)


def test_what_is_known_and_where_changes_what_is_expected_elsewhere(model):
    unknown = torch.full((1, 3, 5), model.mask_token)
    one, other = unknown.clone(), unknown.clone()
    one[0, 0, 0], other[0, 2, 4] = 3, 3
    scores = [model(tokens)[0, :, 1, 2] for tokens in (unknown, one, other)]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert (scores[first] - scores[second]).abs().max() > 1e-4


def test_the_embedding_is_the_output_layer(model):
    features = torch.randn(4, 16)
    expected = features.numpy() @ model.embedding.weight[:7].detach().numpy().T + model.bias.detach().numpy()
    np.testing.assert_allclose(model.scores(features).detach().numpy(), expected, atol=1e-5)
    over_codes = {name for name, weight in model.named_parameters() if 7 <= weight.shape[0] <= 8}
    assert over_codes == {"bias", "embedding.weight"}


def test_codes_that_look_alike_begin_alike_and_frequent_ones_begin_likely(model):
    contents = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]])
    tokens = torch.tensor([0] * 8 + [1, 2, 3, 4, 5, 1, 1]).view(1, 3, 5)
    model.start_from(contents, tokens)
    apart = torch.cdist(model.embedding.weight[:7], model.embedding.weight[:7])
    same = torch.cdist(contents, contents) == 0
    assert apart[same].max() < 0.5 * apart[~same].min()
    shares = (np.array([8, 3, 1, 1, 1, 1, 0]) + 0.5) / (15 + 3.5)
    np.testing.assert_allclose(model.bias.detach().numpy(), np.log(shares), atol=1e-5)


def test_more_principal_components_than_width_or_codes_are_cut(model):
    tokens, unlisted = torch.zeros(1, 3, 5, dtype=torch.int64), model.embedding.weight[6:].clone()
    model.start_from(torch.randn(6, 40), tokens)
    narrow = MaskedTokenTransformer(7, (3, 5), width=4, depth=1, heads=1)
    narrow.start_from(torch.randn(7, 40), tokens)
    assert model.embedding.weight.isfinite().all()
    assert narrow.embedding.weight.isfinite().all()
    assert model.embedding.weight[6:].equal(unlisted)  # a code without content, and the mask


@pytest.mark.parametrize("shape", [(5, 3), (3, 6), (6, 5)])
def test_another_grid_is_refused_with_both_sizes(model, shape):
    with pytest.raises(ValueError, match=rf"grids of 3x5 tokens, got {shape[0]}x{shape[1]}"):
        model(torch.zeros(1, *shape, dtype=torch.int64))


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"token_model\.heads=3 does not divide token_model\.width=16"):
        MaskedTokenTransformer(7, (3, 5), width=16, heads=3)
    with pytest.raises(ValueError, match=r"unknown token_model\.name='maskgit': one of masked"):
        build_token_model("maskgit", 7, (3, 5))
