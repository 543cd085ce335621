from __future__ import annotations

import numpy as np
import pytest
import torch

from gss.maskige.inverse import SoftDistance
from gss.maskige.palette import max_distance_palette
from gss.maskige.transform import MaskigeTransform
from gss.objectives.targets import (
    IGNORE_POLICIES,
    TargetEncoder,
    both,
    filled,
    filled_labels,
    masked,
    token_valid,
)
from gss.pipeline import MaskigeAutoencoder
from gss.tokenizer.patches import PatchDictionary

PIXEL_LOGITS = torch.randn(2, 5, 16, 24, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels(draw_labels):
    """Labels (2, 16, 24) of which one cell and parts of others are ignored."""
    drawn = draw_labels(2, (16, 24), 5, seed=3, ignored=True)
    drawn[0, :4, :4] = 255
    drawn[1, 5:7, 9:15] = 255
    return drawn


@pytest.fixture
def tokenizer(labels, draw_labels):
    palette = max_distance_palette(5)
    transform, dictionary = MaskigeTransform(palette), PatchDictionary(stride=4, vocab_size=1000)
    dictionary.fit([transform.paint(draw_labels(8, (16, 24), 5))], palette.colours, palette.ignore_colour)
    return transform, dictionary


@pytest.fixture
def autoencoder(tokenizer):
    return MaskigeAutoencoder(*tokenizer, SoftDistance())


def test_a_token_is_valid_unless_its_whole_cell_is_ignored(labels):
    expected = np.zeros((2, 4, 6), bool)
    for picture, row, column in np.ndindex(2, 4, 6):
        cell = labels[picture, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].numpy()
        expected[picture, row, column] = np.any(cell != 255)
    assert token_valid(labels, 4).dtype == torch.bool
    assert token_valid(labels, 4).numpy().tolist() == expected.tolist()
    assert 0 < expected.sum() < expected.size


def test_a_cell_that_the_picture_ends_in_counts_by_the_pixels_it_has():
    labels = torch.full((1, 5, 9), 255)
    labels[0, 4, 8] = 0
    assert token_valid(labels, 4).int().tolist() == [[[0, 0, 0], [0, 0, 1]]]


def test_filling_takes_the_pixel_heads_word_where_labels_are_ignored_and_nowhere_else(labels):
    painted = filled_labels(labels, PIXEL_LOGITS)
    expected = np.where(labels.numpy() == 255, PIXEL_LOGITS.numpy().argmax(1), labels.numpy())
    assert painted.numpy().tolist() == expected.tolist()
    assert painted.max() < 5


def test_masked_leaves_labels_alone_and_counts_cells_that_have_some(labels):
    painted, valid = masked(labels, PIXEL_LOGITS, 4)
    assert painted.equal(labels)
    assert valid.equal(token_valid(labels, 4))


def test_filled_counts_every_cell(labels):
    painted, valid = filled(labels, PIXEL_LOGITS, 4)
    assert painted.equal(filled_labels(labels, PIXEL_LOGITS))
    assert valid.shape == (2, 4, 6)
    assert valid.all()


def test_both_fills_and_counts_cells_that_have_labels(labels):
    painted, valid = both(labels, PIXEL_LOGITS, 4)
    assert painted.equal(filled_labels(labels, PIXEL_LOGITS))
    assert valid.equal(token_valid(labels, 4))
    assert not valid.all()


def test_the_configured_policy_holds_from_the_end_of_the_warm_up_on(labels, autoencoder):
    encoder = TargetEncoder(ignore_policy="filled", fill_warmup=3)
    masked_cells = token_valid(labels, 4)
    for step in range(5):
        valid = encoder(autoencoder, labels, PIXEL_LOGITS, step).token_valid
        assert valid.equal(masked_cells) if step < 3 else valid.all()
    assert TargetEncoder().ignore_policy == "both"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ignore_policy": "fill"}, r"stage\.ignore_policy='fill': one of both, masked, filled"),
        ({"fill_warmup": -1}, r"stage\.fill_warmup=-1 must be a number of steps, 0 or more"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TargetEncoder(**settings)


@pytest.mark.parametrize("policy", IGNORE_POLICIES)
def test_tokens_encode_the_painted_labels_of_the_policy(labels, tokenizer, autoencoder, policy):
    transform, dictionary = tokenizer
    targets = TargetEncoder(ignore_policy=policy)(autoencoder, labels, PIXEL_LOGITS)
    painted = labels.numpy() if policy == "masked" else np.where(labels == 255, PIXEL_LOGITS.argmax(1), labels)
    assert targets.tokens.equal(dictionary.encode(transform.paint(torch.from_numpy(painted))))
    assert targets.token_valid.equal(token_valid(labels, 4) | (policy == "filled"))
    assert targets.candidates.equal(targets.tokens[..., None])
    assert targets.shares.equal(torch.ones(2, 4, 6, 1))


def test_the_policies_differ_in_partly_labelled_cells_only(labels, autoencoder):
    encoders = (TargetEncoder(ignore_policy=policy) for policy in ("both", "masked"))
    guessed, kept = (encoder(autoencoder, labels, PIXEL_LOGITS).tokens for encoder in encoders)
    whole = (labels != 255).view(2, 4, 4, 6, 4).all(4).all(2)
    assert guessed[whole].equal(kept[whole])
    assert not guessed.equal(kept)


def test_a_posterior_of_several_tokens_names_its_first_the_token(labels, autoencoder):
    shares = torch.tensor([0.75, 0.25]).expand(2, 4, 6, 2)

    class Two(torch.nn.Module):
        def forward(self, tokenizer, maskige):
            tokens = tokenizer.encode(maskige)
            return torch.stack([tokens, 1 - tokens.clamp(max=1)], dim=-1), shares

    targets = TargetEncoder(Two())(autoencoder, labels, PIXEL_LOGITS)
    assert targets.tokens.equal(TargetEncoder()(autoencoder, labels, PIXEL_LOGITS).tokens)
    assert targets.candidates[..., 0].equal(targets.tokens)
    assert targets.shares.equal(shares)


def test_targets_ask_nothing_of_the_pixel_head(labels, autoencoder):
    encoder = TargetEncoder(ignore_policy="filled")
    targets = encoder(autoencoder, labels, PIXEL_LOGITS.clone().requires_grad_())
    assert not targets.tokens.requires_grad
