"""Scene: one street from a seed; camera and light are chosen, everything is painted, the film developed."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from gss.data.scenes.canvas import EGO_VEHICLE, Camera, Canvas, Light, Noise, rgb
from gss.data.scenes.layout import draw_layout, draw_lots
from gss.data.scenes.street import paint_ground, paint_lots, paint_sky
from gss.data.scenes.traffic import paint_traffic

_OVERSAMPLING = 2  # drawn at twice the size, then averaged: smooth edges from plain shapes
_MOODS = (  # share of the scenes; zenith, haze, sun, shade, sight, shadow, lamps; cloud cover
    (0.28, ((86, 140, 206), (206, 222, 234), (1.12, 1.08, 1.0), (0.52, 0.57, 0.66), 130.0, 0.35, 0.0), 0.25),
    (0.24, ((106, 150, 200), (222, 226, 224), (1.08, 1.06, 1.0), (0.58, 0.62, 0.68), 110.0, 0.55, 0.0), 0.5),
    (0.20, ((126, 140, 176), (246, 206, 160), (1.18, 1.0, 0.76), (0.52, 0.5, 0.56), 80.0, 0.9, 0.0), 0.35),
    (0.16, ((158, 168, 178), (208, 212, 214), (0.86, 0.88, 0.9), (0.76, 0.78, 0.8), 65.0, 0.1, 0.0), 0.9),
    (0.12, ((58, 70, 122), (226, 166, 140), (0.74, 0.66, 0.68), (0.44, 0.44, 0.56), 75.0, 1.2, 0.85), 0.4),
)


def draw_scene(seed: int, number: int, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one street.

    Args:
        seed: of the collection, at least 0.
        number: of the scene in it, at least 0.
        size: (H, W) of the result, pixels.

    Returns:
        The image (H, W, 3) uint8 RGB, and its Cityscapes label ids (H, W) uint8.
    """
    rng = np.random.default_rng([seed, number])
    canvas, cover = _set_up(rng, size)
    noise, layout = Noise(rng), draw_layout(rng)
    lots = {side: draw_lots(rng) for side in (-1, 1)}
    paint_sky(canvas, noise, cover)
    paint_ground(canvas, noise, layout, lots[canvas.light.sun_side])
    for side in (-1, 1):
        paint_lots(canvas, noise, layout, side, lots[side])
    paint_traffic(canvas, rng, layout)
    _paint_bonnet(canvas, rng)
    return _develop(canvas, rng, size)


def _set_up(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Canvas, float]:
    """Choose camera and light; give the blank canvas and the cloud cover."""
    height, width = size[0] * _OVERSAMPLING, size[1] * _OVERSAMPLING
    camera = Camera(
        focal=float(rng.uniform(0.6, 0.72)) * width,
        centre=float(rng.uniform(0.42, 0.58)) * width,
        horizon=float(rng.uniform(0.43, 0.51)) * height,
        height=float(rng.uniform(1.35, 1.75)),
    )
    _, mood, cover = _MOODS[int(rng.choice(len(_MOODS), p=[share for share, _, _ in _MOODS]))]
    return Canvas(height, width, camera, Light(*mood, sun_side=int(rng.choice((-1, 1))))), cover


def _paint_bonnet(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint the camera's own bonnet, in which the sky is reflected, along the bottom of the picture."""
    rise = float(rng.uniform(0.065, 0.13)) * canvas.height
    column, row = int(canvas.width * rng.uniform(0.47, 0.53)), canvas.height + int(0.27 * rise)
    mask = np.zeros((canvas.height, canvas.width), np.uint8)
    cv2.ellipse(mask, (column, row), (int(0.46 * canvas.width), int(rise)), 0, 0, 360, 1, -1)
    rows = np.nonzero(mask)[0]
    gloss = (1 - np.clip((rows - row + rise) / rise, 0, 1)[:, None]) ** 3
    canvas.image[mask == 1] = rgb((34, 38, 48)) + 0.45 * gloss * rgb(canvas.light.haze)
    canvas.ids[mask == 1] = EGO_VEHICLE


def _develop(
    canvas: Canvas, rng: np.random.Generator, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Turn the canvas into an image (average, vignette, exposure, sensor noise) and label ids (nearest).

    The canvas has twice the `size` (H, W); the results are (H, W, 3) uint8 RGB and (H, W) uint8 Cityscapes ids.
    """
    height, width = size
    image = cv2.resize(canvas.image, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    vignette = 1 - 0.07 * (rows**2 + columns**2)
    exposure = rng.uniform(0.98, 1.22) * rng.normal(1, 0.015, 3)
    grain = rng.normal(0, rng.uniform(2, 5), (height, width, 1)) + rng.normal(0, 1.5, (height, width, 3))
    image = np.clip(image * vignette[..., None] * exposure + grain, 0, 255).astype(np.uint8)
    middle = slice(_OVERSAMPLING // 2, None, _OVERSAMPLING)
    return image, np.ascontiguousarray(canvas.ids[middle, middle])
