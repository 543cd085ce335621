"""Surfaces: the colour of ground and fronts as a function of where on them one looks, in metres.

Each function takes world coordinates (...) float32 of any one shape, in metres, and gives (..., 3) float32 colours,
about 0 .. 255 in plain daylight; lit windows exceed it. Light and haze come later, and clip.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gss.data.scenes.canvas import rgb
from gss.data.scenes.layout import Layout, Lot
from gss.data.scenes.noise import Noise

Metres = NDArray[np.float32]
"""World coordinates: x across the street from its middle, y above the ground, z ahead."""

_SHOPS = 3.4  # height of the ground floor, metres


def asphalt(x: Metres, z: Metres, noise: Noise, layout: Layout) -> NDArray[np.float32]:
    """Colour the road: grey with stains and wheel tracks, a dashed middle line, edge lines, a crossing.

    x, z (...) float32 in metres to (..., 3) float32 colours, about 0 .. 255.
    """
    tracks = np.exp(-((np.abs(np.abs(x) - layout.road / 2) - 0.8) ** 2) / 0.1)
    grain = np.exp(-z / 30) * noise.grain(x, z, 40)
    grey = 96 + 6 * noise.cloud(x, z, 9) + 7 * grain + 8 * tracks
    marked = (np.abs(x) < 0.09) & (z % 6 < 3)
    marked |= np.abs(np.abs(x) - layout.road + 0.35) < 0.06
    if layout.crossing is not None:
        marked = np.where(np.abs(z - layout.crossing - 1.5) < 1.5, x % 1.0 < 0.5, marked)
    paint = np.where(marked, np.clip(0.8 + 0.12 * noise.cloud(x, z, 30), 0.3, 1), 0)
    return _tinted(grey * (1 - paint) + 222 * paint, (0.98, 1.0, 1.03))


def paving(x: Metres, z: Metres, noise: Noise, layout: Layout) -> NDArray[np.float32]:
    """Colour the sidewalk, x, z (...) to (..., 3) float32: slabs with joints, and a bright curb."""
    slabs = noise.grain(np.floor(x / 0.7), np.floor(z / 0.7), 1)
    joints = ((x % 0.7 < 0.05) | (z % 0.7 < 0.05)) * np.exp(-z / 12)
    grey = 158 + 7 * noise.cloud(x, z, 14) + 5 * slabs - 38 * joints
    return _tinted(np.where(np.abs(x) - layout.road < 0.16, 186, grey), (1.02, 0.99, 0.94))


def grass(x: Metres, z: Metres, noise: Noise, layout: Layout) -> NDArray[np.float32]:
    """Colour the strip of grass between sidewalk and façades, x, z (...) to (..., 3) float32."""
    blades = np.exp(-z / 25) * noise.grain(x, z, 25)
    return _tinted(1 + 0.1 * noise.cloud(x, z, 20) + 0.12 * blades, (112, 138, 66))


def facade(z: Metres, y: Metres, noise: Noise, lot: Lot, lamps: float) -> NDArray[np.float32]:
    """Colour a house front: plaster, rows of windows, shops below an awning, a cornice.

    z, y (...) float32 in metres to (..., 3) float32 colours, about 0 .. 255; but `lamps` above 0 lights some of
    the windows, brighter than any surface in daylight, up to 640.
    """
    along, storey = (z - lot.near) / lot.bay, (y - _SHOPS) / lot.floor
    u, v = np.abs(along % 1 - 0.5), storey % 1
    chance = noise.grain(np.floor(along) + lot.near, np.floor(storey) + lot.far, 1)
    framed = (u < 0.3) & (v > 0.18) & (v < 0.86) & (y > _SHOPS) & (y < lot.height - 0.7)
    pane = framed & (u > 0.025) & (u < 0.24) & (v > 0.23) & (v < 0.8)
    shop = (u > 0.02) & (u < 0.38) & (y > 0.6) & (y < _SHOPS - 0.5)
    base = rgb(lot.colour)
    colour = base * (1 + 0.035 * noise.cloud(z, y, 12)[..., None])
    colour[framed] = np.clip(base * 1.22, 0, 240)
    colour[pane] = _glass(chance[pane], 26 * (v[pane] - 0.5), (70, 88, 104))
    colour[pane & (chance > 0.5) & (lamps > 0)] = rgb((640, 530, 340)) * lamps
    colour[shop] = _glass(1.5 * chance[shop], 22 * (y[shop] - 1.6), (92, 100, 108))
    colour[(y > _SHOPS - 0.5) & (y < _SHOPS)] = lot.awning
    colour[y > lot.height - 0.5] = np.clip(base * 1.15, 0, 240)
    return colour


def hedge(z: Metres, y: Metres, noise: Noise, lot: Lot, lamps: float) -> NDArray[np.float32]:
    """Colour foliage, z, y (...) to (..., 3) float32: mottled greens, darker below."""
    tone = 0.75 + 0.16 * noise.cloud(z, y, 40) + 0.12 * noise.grain(z, y, 8) + 0.25 * y / lot.height
    return _tinted(np.clip(tone, 0.3, 1.5), lot.colour)


def masonry(z: Metres, y: Metres, noise: Noise, lot: Lot, lamps: float) -> NDArray[np.float32]:
    """Colour a wall, z, y (...) to (..., 3) float32: courses of stone with joints."""
    course = np.floor(y / 0.4)
    along = z + 0.5 * course
    joints = (y % 0.4 < 0.05) | (along % 1.0 < 0.06)
    stones = noise.grain(np.floor(along), course, 1)
    return _tinted(1 + 0.06 * noise.cloud(z, y, 20) + 0.05 * stones - 0.22 * joints, lot.colour)


def planks(z: Metres, y: Metres, noise: Noise, lot: Lot, lamps: float) -> NDArray[np.float32]:
    """Colour a fence, z, y (...) to (..., 3) float32: upright planks and two rails."""
    rail = (np.abs(y - 0.35) < 0.08) | (np.abs(y - lot.height + 0.3) < 0.08)
    gap = (z % 0.36 < 0.09) & ~rail
    tone = 1 + 0.12 * noise.grain(np.floor(z / 0.36), y * 0, 1) - 0.5 * gap + 0.1 * rail
    return _tinted(tone, lot.colour)


def _glass(chance: Metres, gradient: Metres, colour: tuple[int, int, int]) -> NDArray[np.float32]:
    """Colour panes that each reflect a little more or less of the sky: (N,) and (N,) to (N, 3) float32."""
    return rgb(colour) + (16 * chance + gradient)[..., None]


def _tinted(tone: NDArray[np.floating], colour: tuple[float, float, float]) -> NDArray[np.float32]:
    """Multiply a brightness (...) with one colour: (..., 3) float32."""
    return np.asarray(tone[..., None] * rgb(colour), np.float32)
