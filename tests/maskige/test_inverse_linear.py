from __future__ import annotations

import numpy as np
import pytest
import torch

from gss.data.cityscapes import cityscapes_labels
from gss.maskige.inverse import AffineLeastSquares, LeastSquares, NearestColour
from gss.maskige.palette import max_distance_palette

DISPLAY = torch.tensor(cityscapes_labels().colours).float() / 255
PALETTES = {"display": DISPLAY, "19 far apart": max_distance_palette(19).colours, "3": torch.eye(3)}


def swatches(colours):
    """A maskige of one pixel per class in its own colour, (1, 3, 1, K)."""
    return colours.T[None, :, None]


def recovered(inverse, colours):
    return int((inverse(swatches(colours), colours).argmax(1).flatten() == torch.arange(len(colours))).sum())


@pytest.mark.parametrize("name", PALETTES)
@pytest.mark.parametrize(("inverse", "bias"), [(LeastSquares(), False), (AffineLeastSquares(), True)])
def test_scores_are_the_least_squares_estimate_of_the_one_hot_classes(name, inverse, bias):
    colours = PALETTES[name]
    maskige = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    beta, pixels = colours.double().numpy(), maskige.double().movedim(1, -1).reshape(-1, 3).numpy()
    if bias:
        beta, pixels = np.c_[beta, np.ones(len(beta))], np.c_[pixels, np.ones(len(pixels))]
    solution, *_ = np.linalg.lstsq(beta, np.eye(len(beta)), rcond=None)  # of beta s = one-hot, with the least norm
    scores = inverse.class_scores(maskige, colours).movedim(1, -1).reshape(len(pixels), -1)
    np.testing.assert_allclose(scores, pixels @ solution, atol=1e-5)
    torch.testing.assert_close(inverse(maskige, colours).sum(1), torch.ones(2, 4, 5))


def test_the_printed_formula_has_no_inverse_beyond_three_classes():
    beta = DISPLAY.double().numpy()
    assert np.linalg.matrix_rank(beta @ beta.T) == 3 < len(beta)


def test_least_squares_loses_most_classes_even_without_noise():
    """5 of 19 for the display colours of Cityscapes, 7 with a bias; the nearest colour loses none."""
    beta = DISPLAY.double().numpy()
    expected = int(((beta @ np.linalg.pinv(beta)).argmax(1) == np.arange(19)).sum())
    assert recovered(LeastSquares(), DISPLAY) == expected == 5
    assert recovered(AffineLeastSquares(), DISPLAY) == 7
    assert recovered(NearestColour(), DISPLAY) == 19


@pytest.mark.parametrize("num_classes", [19, 150])
def test_colours_far_apart_do_not_save_least_squares(num_classes):
    colours = max_distance_palette(num_classes).colours
    beta = colours.double().numpy()
    expected = int(((beta @ np.linalg.pinv(beta)).argmax(1) == np.arange(num_classes)).sum())
    assert recovered(LeastSquares(), colours) == expected < num_classes / 2
    assert recovered(NearestColour(), colours) == num_classes


def test_three_classes_are_where_the_printed_formula_works():
    assert recovered(LeastSquares(), torch.eye(3)) == 3
