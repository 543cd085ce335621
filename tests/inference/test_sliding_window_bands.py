"""Class probabilities row by row are those of the whole picture."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

import gss.inference.sliding_window
from gss.inference.sliding_window import Band, assembled, enlarged, likeliest


def class_probs(*shape):
    return torch.randn(2, 5, *shape, generator=torch.Generator().manual_seed(0)).mul(3).softmax(1)


def cut(whole, heights):
    """Bands of some heights."""
    tops = [sum(heights[:place]) for place in range(len(heights))]
    return [Band(top, {"expected": part}) for top, part in zip(tops, whole.split(heights, dim=-2), strict=True)]


@pytest.mark.parametrize("heights", [[20], [1] * 20, [3, 1, 9, 7], [19, 1]])
@pytest.mark.parametrize("size", [(40, 60), (20, 90), (77, 30), (13, 30), (7, 9), (1, 1), (20, 30), (61, 1)])
@pytest.mark.parametrize("limit", [1, 1000, 2**24])
def test_bands_at_another_size_are_those_of_torch(heights, size, limit, monkeypatch):
    monkeypatch.setattr(gss.inference.sliding_window, "BAND", limit)
    whole = class_probs(20, 30)
    bands = list(enlarged(cut(whole, heights), (20, 30), size))
    tops = [band.top for band in bands]
    ends = [band.top + band.class_probs["expected"].shape[-2] for band in bands]
    assert tops == [0, *ends[:-1]]
    assert ends[-1] == size[0]
    found = assembled(iter(bands), size[0])["expected"]
    expected = interpolate(whole, size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)  # torch's places are in single precision
    torch.testing.assert_close(found.sum(1), torch.ones(2, *size))


def test_a_picture_of_one_row_can_be_enlarged():
    whole = class_probs(1, 1)
    found = assembled(enlarged(cut(whole, [1]), (1, 1), (9, 7)), 9)["expected"]
    torch.testing.assert_close(found, whole.expand(-1, -1, 9, 7))


def test_a_band_holds_no_more_than_it_may(monkeypatch):
    monkeypatch.setattr(gss.inference.sliding_window, "BAND", 2 * 5 * 90 * 4)
    bands = list(enlarged(cut(class_probs(20, 30), [20]), (20, 30), (60, 90)))
    assert {band.class_probs["expected"].shape[-2] for band in bands} == {4}


def test_labels_are_those_of_the_whole_picture():
    whole = class_probs(20, 30)
    assert likeliest(cut(whole, [3, 10, 7]))["expected"].equal(whole.argmax(1))
    assert assembled(cut(whole, [3, 10, 7]), 20)["expected"].equal(whole)


def test_a_picture_that_is_one_band_is_not_copied():
    whole = class_probs(20, 30)
    assert assembled([Band(0, {"expected": whole})], 20)["expected"] is whole
