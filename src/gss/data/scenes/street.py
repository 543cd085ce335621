"""Street: sky, ground and the two rows of façades, each pixel coloured by where its ray meets the world.

A surface is a function that colours ground or fronts by where on them one looks: from world coordinates (...) float32
of any one shape, in metres, to (..., 3) float32 colours, about 0 .. 255 in plain daylight; lit windows exceed it. Light
and haze come later, and clip.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gss.data.scenes.canvas import BUILDING, FENCE, ROAD, SIDEWALK, SKY, TERRAIN, VEGETATION, WALL, Canvas, Noise, rgb
from gss.data.scenes.layout import Layout, Lot

Metres = NDArray[np.float32]
"""World coordinates: x across the street from its middle, y above the ground, z ahead."""

_SHOPS = 3.4  # height of the ground floor, metres
_DEPTH = 14.0  # how far a building reaches back from the street, metres


def paint_sky(canvas: Canvas, noise: Noise, cover: float) -> None:
    """Fill the sky with a gradient, clouds that flatten towards the horizon, and a far line of trees.

    Args:
        canvas: to paint on.
        noise: of the scene.
        cover: how much of the sky is cloudy, [0, 1].
    """
    camera, light, last = canvas.camera, canvas.light, int(canvas.camera.horizon) + 2
    rows, columns = np.mgrid[0:last, 0 : canvas.width].astype(np.float32)
    up = np.clip((camera.horizon - rows) / camera.horizon, 0, 1)[..., None]
    sky = rgb(light.haze) * (1 - up**0.7) + rgb(light.zenith) * up**0.7
    depth = 1 / (np.maximum(camera.horizon - rows, 0) / camera.focal + 0.12)
    clouds = noise.cloud((columns - camera.centre) / camera.focal * depth, depth, 20)
    veil = np.clip((clouds + 2.2 * cover - 0.9) * 0.55, 0, 0.9)[..., None] * np.clip(up * 4, 0, 1)
    white = np.clip(rgb(light.haze) * 0.35 + 165 * rgb(light.sun), 0, 255)
    canvas.image[:last] = sky * (1 - veil) + white * veil
    canvas.ids[:last] = SKY
    treetops = camera.horizon - canvas.height * (0.03 + 0.018 * noise.cloud(columns / 40, columns * 0, 6))
    far = rows > treetops
    leaves = rgb((64, 92, 56)) + 8 * noise.cloud(columns[far] / 9, rows[far] / 9, 30)[..., None]
    canvas.image[:last][far] = light.falls_on(leaves, 0.6, np.full(len(leaves), 1.1 * light.sight))
    canvas.ids[:last][far] = VEGETATION


def paint_ground(canvas: Canvas, noise: Noise, layout: Layout, shading: Sequence[Lot]) -> None:
    """Fill everything below the horizon with road, sidewalk and grass.

    Args:
        canvas: to paint on.
        noise: of the scene.
        layout: widths of the street.
        shading: the lots on the sun's side, whose shadow falls on the ground.
    """
    camera, first = canvas.camera, int(canvas.camera.horizon) + 2
    rows, columns = np.mgrid[first : canvas.height, 0 : canvas.width].astype(np.float32)
    z = camera.focal * camera.height / (rows - camera.horizon)
    x = (columns - camera.centre) * z / camera.focal - layout.middle
    beside = np.abs(x) - layout.road
    ids = np.select([beside < 0, beside < layout.sidewalk], [ROAD, SIDEWALK], TERRAIN).astype(np.uint8)
    colour = np.empty((*x.shape, 3), np.float32)
    for label_id, surface in ((ROAD, asphalt), (SIDEWALK, paving), (TERRAIN, grass)):
        at = ids == label_id
        colour[at] = surface(x[at], z[at], noise, layout)
    sun_side = canvas.light.sun_side
    reach = sun_side * (layout.wall(sun_side) - layout.middle - x)
    caster = np.searchsorted([lot.far for lot in shading], z + 0.4 * reach).clip(0, len(shading) - 1)
    heights = np.array([lot.height for lot in shading], np.float32)
    lit = np.asarray(np.clip(3 * (reach - heights[caster] * canvas.light.shadow) + 0.5, 0, 1), np.float32)
    canvas.image[first:] = canvas.light.falls_on(colour, lit, z)
    canvas.ids[first:] = ids


def paint_lots(canvas: Canvas, noise: Noise, layout: Layout, side: int, lots: Sequence[Lot]) -> None:
    """Paint one row of façades from far to near, each with the end wall that a lower neighbour leaves bare.

    Args:
        canvas: to paint on.
        noise: of the scene.
        layout: widths of the street.
        side: -1 for the left row, +1 for the right one.
        lots: what the row consists of, from near to far.
    """
    front, lit = layout.wall(side), 0.12 if side == canvas.light.sun_side else 0.95
    for lot in reversed(lots):
        if lot.label_id == BUILDING:
            back, near = front + side * _DEPTH, max(lot.near, 2.0)
            canvas.box(min(front, back), max(front, back), 0.0, lot.height, near, BUILDING, lot.colour, 0.45)
        _paint_front(canvas, noise, front, lit, lot)


def _paint_front(canvas: Canvas, noise: Noise, wall: float, lit: float, lot: Lot) -> None:
    """Paint the face of a lot that lines the street."""
    camera, seen = canvas.camera, _reach(canvas, wall, lot)
    rows, columns = (axis.astype(np.float32) for axis in np.mgrid[seen])
    beside = columns + 0.5 - camera.centre
    z = np.clip(camera.focal * wall / np.where(beside == 0, 1e-3, beside), lot.near, lot.far)
    y = camera.height - (rows - camera.horizon) * z / camera.focal
    top = lot.height + (0.5 * noise.cloud(z, z * 0, 12) if lot.label_id == VEGETATION else 0)
    hit = (y >= 0) & (y <= top)
    surface = {BUILDING: facade, VEGETATION: hedge, WALL: masonry, FENCE: planks}[lot.label_id]
    colour = surface(z[hit], y[hit], noise, lot, canvas.light.lamps)
    colour *= np.clip(0.75 + y[hit] / 8, 0, 1)[..., None]  # less sky is seen from close to the ground
    canvas.image[seen][hit] = canvas.light.falls_on(colour, lit, z[hit])
    canvas.ids[seen][hit] = lot.label_id


def _reach(canvas: Canvas, wall: float, lot: Lot) -> tuple[slice, slice]:
    """Give the rows and columns of the canvas that a lot's face can reach."""
    ends = [canvas.camera.project((wall, y, z)) for y in (0.0, lot.height + 2.0) for z in (lot.near, lot.far)]
    columns = sorted(min(max(round(column), 0), canvas.width) for column, _ in ends)
    rows = sorted(min(max(int(row) + 1, 0), canvas.height) for _, row in ends)
    return slice(rows[0], rows[-1]), slice(columns[0], columns[-1])


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
