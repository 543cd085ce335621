"""Sliding windows against their formula, computed whole and in double precision by numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gss.inference import Inference
from gss.inference.sliding_window import BLENDS, Axis, assembled, starts, window_bands
from segment_stubs import averaged_by_numpy, by_place, drawn, pixelwise

SIZES = [(40, 56), (16, 20), (33, 61), (15, 90), (70, 19), (1, 1), (1, 50), (17, 21)]


def by_windows(segment, image, **settings):
    given = {"window": (16, 20), "step": (12, 13), "blend": "uniform", "batch": 1, **settings}
    return assembled(window_bands(segment, image, **given), image.shape[-2])


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (2048, [0, 512, 1024, 1280]),
        (1024, [0, 256]),
        (768, [0]),
        (100, [0]),
        (1, [0]),
        (1280, [0, 512]),
        (1281, [0, 512, 513]),
    ],
)
def test_the_last_window_is_moved_back_to_the_border(length, expected):
    assert starts(length, 768, 512) == expected


@pytest.mark.parametrize("length", range(1, 60))
def test_every_pixel_lies_in_a_window(length):
    covered = np.zeros(length, int)
    for start in starts(length, 13, 7):
        assert 0 <= start <= max(length - 13, 0)
        covered[start : start + 13] += 1
    assert covered.min() >= 1


def weights_by_numpy(blend, side):
    place = (np.arange(side) + 0.5) / side
    if blend == "uniform":
        return np.ones(side)
    return np.sin(np.pi * place) ** 2 if blend == "hann" else np.exp(-0.5 * ((place - 0.5) / 0.125) ** 2)


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("size", SIZES)
def test_overlaps_are_averaged_as_the_formula_says(size, blend):
    image = drawn(*size)
    window = [min(side, length) for side, length in zip((16, 20), size, strict=True)]
    single = [length <= side for side, length in zip((16, 20), size, strict=True)]
    weights = [weights_by_numpy("uniform" if one else blend, side) for one, side in zip(single, window, strict=True)]
    found = by_windows(by_place, image, blend=blend)["expected"][0]
    expected = averaged_by_numpy(by_place, image, (16, 20), (12, 13), weights)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    torch.testing.assert_close(found.sum(0), torch.ones(size))


@pytest.mark.parametrize("batch", [2, 3, 100])
def test_windows_that_go_through_the_network_together_say_the_same(batch):
    image = torch.cat([drawn(40, 56), drawn(40, 56, seed=1)])
    together, alone = by_windows(by_place, image, batch=batch), by_windows(by_place, image)
    assert together.keys() == alone.keys() == {"expected", "pixel"}
    for readout in alone:
        torch.testing.assert_close(together[readout], alone[readout], rtol=0, atol=1e-6)
    for number in (0, 1):
        torch.testing.assert_close(alone["pixel"][number], by_windows(by_place, image[[number]])["pixel"][0])


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("window", [(40, 56), (41, 56), (400, 300)])
def test_a_window_as_large_as_the_picture_is_the_whole_picture_bit_for_bit(window, blend):
    image = drawn(40, 56)
    found = by_windows(by_place, image, window=window, step=(30, 30), blend=blend)
    assert found["expected"].equal(dict(by_place(image))["expected"])


@pytest.mark.parametrize("blend", BLENDS)
def test_windows_do_not_matter_to_a_network_that_looks_at_single_pixels(blend):
    image = drawn(45, 70)
    (_, whole) = next(iter(pixelwise(image)))
    torch.testing.assert_close(by_windows(pixelwise, image, blend=blend)["expected"], whole, rtol=0, atol=1e-6)


def test_rows_come_from_top_to_bottom_each_once_and_no_more_than_a_window_at_a_time():
    bands = list(window_bands(by_place, drawn(70, 56), (16, 20), (12, 13)))
    assert [band.top for band in bands] == starts(70, 16, 12)
    heights = [band.class_probs["pixel"].shape[-2] for band in bands]
    assert heights == [12, 12, 12, 12, 6, 16]
    assert all(band.class_probs["expected"].shape[-1] == 56 for band in bands)


def test_weights_are_above_nought_and_symmetric():
    for blend in BLENDS:
        weights = Axis.of(100, 17, 5, blend).weights
        assert weights.min() > 0
        torch.testing.assert_close(weights, weights.flip(0))
        assert weights[8] == weights.max()


def test_labels_are_cut_as_images_are():
    labels = torch.randint(3, (1, 45, 70), generator=torch.Generator().manual_seed(0))
    policy = Inference((8, 8), 4, name="window", scale="native", window=(16, 20), step=(12, 13), blend="hann")

    def one_hot(shown):
        assert shown.shape == (1, 16, 20)
        return torch.nn.functional.one_hot(shown, 3).movedim(-1, 1).float()

    assert policy.reconstructed(one_hot, labels).equal(labels)
