"""Posteriors against their dense definitions: all V shares of a cell, in numpy and float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gss.objectives.targets
from gss.maskige.inverse import SoftDistance
from gss.maskige.palette import max_distance_palette
from gss.maskige.transform import MaskigeTransform
from gss.networks.token_scores import TokenScores
from gss.objectives.divergence import token_divergence
from gss.objectives.targets import (
    OneHotPosterior,
    SmoothedPosterior,
    SoftPosterior,
    TargetEncoder,
    TokenTargets,
    build_posterior,
    nearest_tokens,
)
from gss.pipeline import MaskigeAutoencoder
from gss.tokenizer import patch_clustering
from gss.tokenizer.dalle import DalleDVAE
from gss.tokenizer.dalle_conversion import convert_dalle
from gss.tokenizer.patches import PatchDictionary
from gss.tokenizer.patches_context import ContextDictionary
from gss.tokenizer.vqvae import VQVAE
from published_dvae import Sizes, save_published

PALETTE = max_distance_palette(5)
TRANSFORM = MaskigeTransform(PALETTE)
SIZES = {"vocab_size": 12, "hidden": 8, "num_blocks": 1, "code_dim": 6}
NAMES = ("ema", "fsq", "lfq", "dalle", "patches", "patches_context")


@pytest.fixture(scope="module")
def maskige(draw_labels):
    """Two pictures of 32x48 pixels, a few of them ignored."""
    return TRANSFORM.paint(draw_labels(2, (32, 48), 5, seed=3, ignored=True))


@pytest.fixture(scope="module")
def tokenizers(draw_labels, tmp_path_factory):
    """One of each kind: stride 8, 12 tokens (lfq: 16)."""
    torch.manual_seed(0)
    painted = TRANSFORM.paint(draw_labels(6, (32, 48), 5))
    made = {}
    for quantizer, size in (("ema", 12), ("fsq", 12), ("lfq", 16)):
        made[quantizer] = VQVAE(stride=8, vocab_size=size, hidden=8, code_dim=4, num_blocks=0, quantizer=quantizer)
        made[quantizer].reconstruct(painted)
    for name, dictionary in (("patches", PatchDictionary), ("patches_context", ContextDictionary)):
        made[name] = dictionary(stride=8, vocab_size=12)
        made[name].fit([painted], PALETTE.colours, PALETTE.ignore_colour)
    folder = tmp_path_factory.mktemp("dvae")
    save_published(folder, Sizes(**SIZES))
    convert_dalle(folder, folder / "dalle.safetensors", {})
    made["dalle"] = DalleDVAE(str(folder / "dalle.safetensors"), **SIZES)
    made["dalle"].load_weights()
    return {name: tokenizer.requires_grad_(False).eval() for name, tokenizer in made.items()}


def logits_by_definition(tokenizer, maskige):
    """Scores (B, h, w, V) float64: token_logits, or minus what showing each code would cost, pixel by pixel."""
    if not isinstance(tokenizer, PatchDictionary):
        return tokenizer.token_logits(maskige).movedim(1, -1).double().numpy()
    true, shown = TRANSFORM.unpaint(maskige).numpy(), tokenizer.class_probs.argmax(1).numpy()
    weights = np.append(tokenizer.mistake_weights.double().numpy(), 0)
    logits = np.zeros((2, 4, 6, len(shown)))
    for place in np.ndindex(2, 4, 6, len(shown)):
        picture, row, column, token = place
        cell, code = true[picture, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8], shown[token]
        wrong = (cell != code) & (cell != 255)
        logits[place] = -(weights[cell[wrong]] + weights[code[wrong]]).sum()
    return logits


def dense(tokens, shares, vocab_size):
    """Shares of all tokens, (B, h, w, V)."""
    whole = torch.zeros(*tokens.shape[:-1], vocab_size, dtype=torch.float64)
    return whole.scatter_add(-1, tokens, shares.double()).numpy()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("candidates", "temperature"), [(3, 1.0), (50, 0.5), (1, 2.0)])
def test_soft_is_the_softmax_of_the_tokenizer_cut_to_the_likeliest(tokenizers, maskige, name, candidates, temperature):
    tokenizer = tokenizers[name]
    tokens, shares = SoftPosterior(candidates, temperature)(tokenizer, maskige)
    vocab_size, number = tokenizer.vocab_size, min(candidates, tokenizer.vocab_size)
    assert tokens.shape == shares.shape == (2, 4, 6, number)
    logits = logits_by_definition(tokenizer, maskige)
    expected = np.exp((logits - logits.max(-1, keepdims=True)) / temperature)
    least = np.sort(expected, -1)[..., [vocab_size - number]]  # the share of the last that is kept
    found = dense(tokens, shares, vocab_size)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
    assert (np.take_along_axis(expected, tokens.numpy(), -1) >= least * (1 - 1e-4)).all()
    expected[found == 0] = 0  # of equally likely ones at the end of the cut, either may be kept
    np.testing.assert_allclose(found, expected / expected.sum(-1, keepdims=True), atol=1e-5)
    assert (shares[..., :-1] >= shares[..., 1:]).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_first_candidate_is_the_token(tokenizers, maskige, name):
    tokens, _ = tokenizers[name].posterior(maskige, 4)
    assert tokens[..., 0].equal(tokenizers[name].encode(maskige))
    assert all(len(set(cell)) == 4 for cell in tokens.flatten(0, 2).tolist())


@pytest.mark.parametrize("name", NAMES)
def test_a_cold_posterior_is_one_hot(tokenizers, maskige, name):
    tokenizer = tokenizers[name]
    logits = np.sort(logits_by_definition(tokenizer, maskige), -1)
    clear = torch.from_numpy(logits[..., -1] > logits[..., -2] + 1e-6)  # of equal matches none is
    assert clear.sum() > 20
    tokens, shares = SoftPosterior(5, 1e-8)(tokenizer, maskige)
    assert tokens[..., 0].equal(OneHotPosterior()(tokenizer, maskige))
    assert (shares[clear][:, 0] == 1).all()
    assert (shares[clear][:, 1:] == 0).all()


def test_a_dictionary_in_parts_finds_the_same_candidates(tokenizers, maskige, monkeypatch):
    whole = tokenizers["patches"].posterior(maskige, 5)
    monkeypatch.setattr(patch_clustering, "CODES_AT_ONCE", 4)
    monkeypatch.setattr(patch_clustering, "PATCHES_AT_ONCE", 7)
    parts = tokenizers["patches"].posterior(maskige, 5)
    assert parts[0].equal(whole[0])
    assert parts[1].equal(whole[1])


@pytest.mark.parametrize("name", ["ema", "patches"])
@pytest.mark.parametrize("rows", [5, 512])
def test_neighbours_are_those_that_decode_to_the_nearest_class_probabilities(tokenizers, name, rows, monkeypatch):
    monkeypatch.setattr(gss.objectives.targets, "ROWS_AT_ONCE", rows)
    codes = MaskigeAutoencoder(TRANSFORM, tokenizers[name], SoftDistance()).code_class_probs()
    points = codes.flatten(1).double().numpy()
    distances = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    np.fill_diagonal(distances, np.inf)
    found = nearest_tokens(codes, 4).numpy()
    assert all(token not in row and len(set(row)) == 4 for token, row in enumerate(found.tolist()))
    of_found = np.take_along_axis(distances, found, 1)
    np.testing.assert_allclose(of_found, np.sort(distances, 1)[:, :4], atol=1e-3)
    assert nearest_tokens(codes, 99).shape == (12, 11)


def test_smoothed_divides_epsilon_among_the_neighbours(tokenizers, maskige):
    tokenizer = tokenizers["patches"]
    codes = MaskigeAutoencoder(TRANSFORM, tokenizer, SoftDistance()).code_class_probs()
    tokens, shares = SmoothedPosterior(codes, 3, 0.3)(tokenizer, maskige)
    own = tokenizer.encode(maskige)
    expected = np.zeros((2, 4, 6, 12))
    neighbours = nearest_tokens(codes, 3)
    for place in np.ndindex(2, 4, 6):
        expected[place][neighbours[own[place]]] = 0.1
        expected[place][own[place]] = 0.7
    np.testing.assert_allclose(dense(tokens, shares, 12), expected, atol=1e-6)


def test_without_smoothing_the_divergence_is_that_of_one_token(tokenizers, maskige):
    tokenizer = tokenizers["patches"]
    codes = MaskigeAutoencoder(TRANSFORM, tokenizer, SoftDistance()).code_class_probs()
    spread = SmoothedPosterior(codes, 3, 0.0)(tokenizer, maskige)
    assert spread[1][..., 0].eq(1).all()
    assert spread[1][..., 1:].eq(0).all()
    prior = TokenScores.from_logits(torch.randn(2, 12, 4, 6, generator=torch.Generator().manual_seed(0)))
    one = TokenTargets(tokenizer.encode(maskige), torch.ones(2, 4, 6, dtype=torch.bool))
    several = TokenTargets(one.tokens, one.token_valid, spread)
    assert token_divergence(prior, several).item() == token_divergence(prior, one).item()


def test_a_token_alone_keeps_everything(maskige):
    class Alone(torch.nn.Module):
        def encode(self, maskige):
            return torch.zeros(2, 4, 6, dtype=torch.int64)

    _, shares = SmoothedPosterior(torch.rand(1, 5, 8, 8), 3, 0.3)(Alone(), maskige)
    assert shares.equal(torch.ones(2, 4, 6, 1))


def test_posteriors_become_targets(tokenizers, draw_labels):
    labels, tokenizer = draw_labels(2, (32, 48), 5, seed=3, ignored=True), tokenizers["dalle"]
    soft = SoftPosterior(3, 1.0)
    autoencoder = MaskigeAutoencoder(TRANSFORM, tokenizer, SoftDistance())
    targets = TargetEncoder(soft)(autoencoder, labels, torch.zeros(2, 5, 32, 48))
    tokens, shares = soft(tokenizer, TRANSFORM.paint(torch.where(labels == 255, 0, labels)))
    assert targets.candidates.equal(tokens)
    assert targets.shares.equal(shares)
    assert targets.tokens.equal(tokens[..., 0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "hard"}, r"stage\.posterior\.name='hard': one of one_hot, soft, smoothed"),
        ({"name": "soft", "temperature": 0.0}, r"stage\.posterior\.temperature=0\.0 must be positive.*name=one_hot"),
        ({"name": "soft", "neighbours": 0}, r"stage\.posterior\.neighbours=0 must be at least 1"),
        ({"name": "smoothed", "neighbours": 0}, r"stage\.posterior\.neighbours=0 must be at least 1"),
        ({"name": "smoothed", "smoothing": 1.0}, r"stage\.posterior\.smoothing=1\.0 must lie in \[0, 1\)"),
    ],
)
def test_a_posterior_that_cannot_be_is_refused(settings, message):
    usual = {"temperature": 1.0, "neighbours": 8, "smoothing": 0.1, "codes": torch.rand(9, 5, 4, 4)}
    with pytest.raises(ValueError, match=message):
        build_posterior(**{**usual, **settings})
