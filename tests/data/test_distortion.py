"""Photometric distortion against the published steps, written out one after the other."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
import pytest

from gss.data.distortion import PhotometricDistortion, scaled_levels, turned
from gss.data.transforms import Augmentation, training_transform

PUBLISHED = {"brightness": 32 / 255, "contrast": 0.5, "saturation": 0.5, "hue": 0.1}


def published(image, shift, contrast, saturation, turn, contrast_first):
    """Each step by itself on floats, bytes in between; OpenCV's HSV, as published."""

    def converted(values, factor=1.0, shift=0.0):
        return np.clip(values.astype(np.float32) * np.float32(factor) + np.float32(shift), 0, 255).astype(np.uint8)

    image = image if shift is None else converted(image, shift=shift)
    if contrast_first and contrast is not None:
        image = converted(image, contrast)
    if saturation is not None:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 1] = converted(hsv[..., 1], saturation)
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if turn is not None:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + turn) % 180
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if not contrast_first and contrast is not None:
        image = converted(image, contrast)
    return image


@pytest.fixture
def distortion():
    return PhotometricDistortion(**PUBLISHED)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


def samples(distortion, number):
    return [distortion.set_random_seed(seed) or distortion.get_params() for seed in range(number)]


def test_colours_change_as_the_published_steps_say(distortion, image):
    together = 0
    for parameters in samples(distortion, 120):
        difference = np.abs(distortion.apply(image, **parameters).astype(int) - published(image, **parameters))
        if parameters["saturation"] is not None and parameters["turn"] is not None:  # one way to HSV and back, not two
            assert difference.mean() < 1.5
            together += 1
        else:
            assert difference.max() == 0
    assert 15 < together < 45


def test_each_change_is_made_half_the_time_over_its_whole_range(distortion):
    taken = samples(distortion, 2000)
    for name, low, high in (("shift", -32, 32), ("contrast", 0.5, 1.5), ("saturation", 0.5, 1.5), ("turn", -18, 17)):
        values = np.array([parameters[name] for parameters in taken if parameters[name] is not None])
        assert len(values) / 2000 == pytest.approx(0.5, abs=0.04)
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high
    assert {type(parameters["turn"]) for parameters in taken} == {int, type(None)}
    assert np.mean([parameters["contrast_first"] for parameters in taken]) == pytest.approx(0.5, abs=0.04)


def test_levels_are_cut_off_and_rounded_down():
    assert scaled_levels(1.5, 0.0)[[0, 1, 3, 169, 170, 171, 255]].tolist() == [0, 1, 4, 253, 255, 255, 255]
    assert scaled_levels(1.0, -31.5)[[0, 31, 32, 33, 255]].tolist() == [0, 0, 0, 1, 223]


def test_a_turn_of_60_degrees_makes_red_yellow_and_half_the_saturation_pink():
    red = np.full((1, 1, 3), (200, 0, 0), np.uint8)
    assert turned(red, 1.0, 30).tolist() == [[[200, 200, 0]]]
    hue, saturation, value = colorsys.rgb_to_hsv(200 / 255, 0, 0)
    pink = [255 * channel for channel in colorsys.hsv_to_rgb(hue, saturation / 2, value)]
    np.testing.assert_allclose(turned(red, 0.5, 0)[0, 0], pink, atol=1)


def test_nothing_changes_where_nothing_may(image):
    still = training_transform(
        (40, 50), Augmentation((1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0, geometry="native", colour="distortion")
    )
    for seed in range(20):
        still.set_random_seed(seed)
        np.testing.assert_array_equal(still(image=image, mask=image[..., 0])["image"], image)
