from __future__ import annotations

import numpy as np
import pytest
import torch

from gss.maskige.inverse import NearestColour, SoftDistance
from gss.maskige.palette import max_distance_palette

COLOURS = max_distance_palette(19).colours
MASKIGE = torch.rand(2, 3, 6, 7, generator=torch.Generator().manual_seed(0))


def closed_form(maskige, colours, temperature):
    """exp(-|x - colour|^2 / temperature), normalised, on the 0-255 scale in float64."""
    pixels, palette = maskige.double().numpy() * 255, colours.double().numpy() * 255
    squared = ((pixels[:, None] - palette[None, :, :, None, None]) ** 2).sum(2)
    weights = np.exp(-(squared - squared.min(1, keepdims=True)) / temperature)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("temperature", [100.0, 900.0, 20_000.0])
def test_probabilities_are_the_closed_form(temperature):
    class_probs = SoftDistance(temperature)(MASKIGE, COLOURS)
    assert class_probs.dtype == torch.float32
    np.testing.assert_allclose(class_probs.numpy(), closed_form(MASKIGE, COLOURS, temperature), atol=1e-4)
    torch.testing.assert_close(class_probs.sum(1), torch.ones(2, 6, 7))


def test_the_likeliest_class_has_the_nearest_colour():
    distances = torch.cdist(MASKIGE.permute(0, 2, 3, 1).reshape(-1, 3).double(), COLOURS.double())
    likeliest = SoftDistance()(MASKIGE, COLOURS).argmax(1)
    assert likeliest.flatten().equal(distances.argmin(1))


def test_mixed_precision_does_not_reach_the_distances():
    with torch.autocast("cpu", torch.bfloat16):
        mixed = SoftDistance()(MASKIGE, COLOURS)
    assert mixed.dtype == torch.float32
    assert mixed.equal(SoftDistance()(MASKIGE, COLOURS))


@pytest.mark.parametrize("temperature", [0, -900])
def test_a_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match=rf"maskige\.temperature must be positive, got {temperature}"):
        SoftDistance(temperature)


def test_the_nearest_colour_has_all_the_probability():
    class_probs = NearestColour()(MASKIGE, COLOURS)
    distances = torch.cdist(MASKIGE.movedim(1, -1).double(), COLOURS.double())
    assert class_probs.equal(torch.nn.functional.one_hot(distances.argmin(-1), len(COLOURS)).movedim(-1, 1).float())
    colder = SoftDistance(1e-3)(MASKIGE, COLOURS)
    torch.testing.assert_close(class_probs, colder)  # the limit of the soft distance


@pytest.mark.parametrize("inverse", [NearestColour(), SoftDistance()])
def test_scores_are_log_probabilities_up_to_a_constant(inverse):
    scores = inverse.class_scores(MASKIGE, COLOURS)
    assert scores.softmax(1).equal(inverse(MASKIGE, COLOURS))
    assert not inverse.trainable
