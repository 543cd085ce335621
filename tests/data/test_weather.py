"""Drawn weather: each effect against its formula, and relative to the size of the picture."""

from __future__ import annotations

import albumentations as A
import cv2
import numpy as np
import pytest

from gss.data.weather import Falling, Fog, Lamplight, Layer, SunGlare, draw_clouds, draw_layer, road_distance


def through(transform, image, seed=0):
    pipeline = A.Compose([transform])
    pipeline.set_random_seed(seed)
    return pipeline(image=image)["image"].astype(np.float64)


def grey(value, size=(60, 90)):
    return np.full((*size, 3), value, np.uint8)


def test_distance_is_that_of_a_flat_road():
    distance = road_distance(200)
    assert (distance[:90] == 1).all()  # horizon and above
    below = (np.arange(90, 200) + 0.5) / 200 - 0.45
    np.testing.assert_allclose(1 / distance[90:], 1 + below / 0.15, rtol=1e-5)  # so that 1 / distance grows evenly


def test_fog_follows_koschmieders_law():
    """Two images J in one fog give t = (I1 - I2) / (J1 - J2) and A = (I - J t) / (1 - t)."""
    bright, dark = through(Fog(1.2), grey(250)), through(Fog(1.2), grey(0))
    transmission = (bright - dark)[..., 0] / 250
    optical = -np.log(transmission) / road_distance(60)[:, None]
    assert 0.5 * 1.2 - 0.05 <= optical.min() < optical.max() <= 1.5 * 1.2 + 0.05  # uneven by half
    air = dark[..., 0] / (1 - transmission) / 255
    assert air.std() < 0.01
    assert 0.74 < air.mean() < 0.91


def test_clouds_are_smooth_and_even_on_average():
    clouds = np.stack([draw_clouds((64, 96), np.random.default_rng(seed)) for seed in range(40)])
    assert -1 <= clouds.min() < -0.5 < 0.5 < clouds.max() <= 1
    assert abs(clouds.mean()) < 0.05
    assert np.abs(np.diff(clouds, axis=2)).max() < 0.25


def test_at_night_light_is_taken_in_linear_values():
    """Far from the cone, at the horizon, a value v becomes (daylight (v / 255)^2.2)^(1 / 2.2), channel by channel."""
    seen = through(Lamplight(daylight=0.1, headlights=0.0), grey(200, (100, 100)))[46, 50]
    np.testing.assert_allclose(seen, 200 * (0.1 * np.array([0.8, 0.95, 1.3])) ** (1 / 2.2), atol=0.6)


def test_at_night_skies_are_darker_than_the_lit_road():
    seen = through(Lamplight(daylight=0.05, headlights=0.5), grey(200, (100, 150))).mean(-1)
    assert seen[:10].mean() < 0.6 * seen[46].mean()
    assert seen[75, 75] > 2 * seen[46].mean()
    assert seen[75, 75] > 1.2 * seen[75, 2]  # the cone points ahead


def test_falling_covers_with_its_colour():
    layers = [Layer(60, 0.05, 0.02)]
    seen = through(Falling(layers, 0.5, (255, 255, 255), 0.0), grey(0, (120, 120)))
    assert seen.max() == pytest.approx(0.5 * 255, abs=12)
    assert (seen == 0).mean() > 0.5
    bright = through(Falling(layers, 1.0, (100, 100, 100), 0.0), grey(100, (120, 120)))
    assert (bright == 100).all()  # on its own colour nothing shows


def test_streaks_are_as_dense_and_long_at_any_size():
    layer = Layer(200, 0.1, 0.006)
    cover = {size: draw_layer(size, layer, 0.2, np.random.default_rng(0)).mean() for size in ((360, 480), (1024, 2048))}
    assert cover[360, 480] == pytest.approx(cover[1024, 2048], rel=0.15)
    thin = draw_layer((100, 100), Layer(200, 0.1, 0.003), 0.2, np.random.default_rng(0))  # a third of a pixel
    assert thin.max() < 0.35


@pytest.mark.parametrize("slant", [0.0, 0.5])
def test_streaks_fall_along_the_slant(slant):
    cover = draw_layer((400, 400), Layer(60, 0.2, 0.005), slant, np.random.default_rng(1))
    down = cv2.Sobel(cover, cv2.CV_32F, 0, 1), cv2.Sobel(cover, cv2.CV_32F, 1, 0)
    # along a streak nothing changes: the gradient's main direction is across it
    _, vectors = np.linalg.eigh(np.cov(down[1].ravel(), down[0].ravel()))
    across, rows = vectors[:, -1]
    assert abs(rows / across) == pytest.approx(np.tan(slant), abs=0.05)


def test_glare_is_screened_and_falls_off_from_the_sun():
    seen = through(SunGlare(brightness=0.8, halo=0.2, veil=0.1), grey(60, (100, 200)))
    peak = np.unravel_index(seen.sum(-1).argmax(), seen.shape[:2])
    assert 2 <= peak[0] <= 36
    assert 0.09 * 200 <= peak[1] <= 0.91 * 200
    rows, columns = (np.arange(100) + 0.5) / 100, (np.arange(200) + 0.5) / 100
    glare = 1 - (1 - seen[..., 0] / 255) / (1 - 60 / 255)  # screening undone, red is not tinted
    assert glare.max() > 0.97
    far = int(np.abs(columns - columns[peak[1]]).argmax())
    distance = np.hypot(columns[far] - columns[peak[1]], rows[peak[0]] - rows[peak[0]])
    assert glare[peak[0], far] == pytest.approx(0.1 + 0.9 * 0.8 / (1 + (distance / 0.2) ** 2), abs=0.02)


def test_the_sun_prefers_the_sky():
    image = grey(40, (100, 200))
    image[:40, 100:] = 230  # a house on the left, the sky on the right
    places = [through(SunGlare(0.5, 0.1, 0.0), image, seed)[:, :, 0] - image[..., 0] for seed in range(20)]
    left = [seen[:, :90].max() > 180 for seen in places]  # the disc brightens dark pixels by up to 215
    assert sum(left) <= 1
