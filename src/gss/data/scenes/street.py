"""Street: sky, ground and the two rows of façades, each pixel coloured by where its ray meets the world."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gss.data.scenes.canvas import Canvas, rgb
from gss.data.scenes.ids import BUILDING, FENCE, ROAD, SIDEWALK, SKY, TERRAIN, VEGETATION, WALL
from gss.data.scenes.layout import Layout, Lot
from gss.data.scenes.noise import Noise
from gss.data.scenes.surfaces import asphalt, facade, grass, hedge, masonry, paving, planks

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
    lit = _sunlight(canvas.light.sun_side, canvas.light.shadow, x, z, layout, shading)
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


def _sunlight(
    sun_side: int,
    shadow: float,
    x: NDArray[np.float32],
    z: NDArray[np.float32],
    layout: Layout,
    shading: Sequence[Lot],
) -> NDArray[np.float32]:
    """Give 1 on ground in the sun, 0 in the shadow of the lots sunwards: x, z (...) metres to (...) float32."""
    reach = sun_side * (layout.wall(sun_side) - layout.middle - x)
    caster = np.searchsorted([lot.far for lot in shading], z + 0.4 * reach).clip(0, len(shading) - 1)
    heights = np.array([lot.height for lot in shading], np.float32)
    return np.asarray(np.clip(3 * (reach - heights[caster] * shadow) + 0.5, 0, 1), np.float32)


def _paint_front(canvas: Canvas, noise: Noise, wall: float, lit: float, lot: Lot) -> None:
    """Paint the face of a lot that lines the street."""
    camera, window = canvas.camera, _window(canvas, wall, lot)
    rows, columns = (axis.astype(np.float32) for axis in np.mgrid[window])
    beside = columns + 0.5 - camera.centre
    z = np.clip(camera.focal * wall / np.where(beside == 0, 1e-3, beside), lot.near, lot.far)
    y = camera.height - (rows - camera.horizon) * z / camera.focal
    top = lot.height + (0.5 * noise.cloud(z, z * 0, 12) if lot.label_id == VEGETATION else 0)
    hit = (y >= 0) & (y <= top)
    surface = {BUILDING: facade, VEGETATION: hedge, WALL: masonry, FENCE: planks}[lot.label_id]
    colour = surface(z[hit], y[hit], noise, lot, canvas.light.lamps)
    colour *= np.clip(0.75 + y[hit] / 8, 0, 1)[..., None]  # less sky is seen from close to the ground
    canvas.image[window][hit] = canvas.light.falls_on(colour, lit, z[hit])
    canvas.ids[window][hit] = lot.label_id


def _window(canvas: Canvas, wall: float, lot: Lot) -> tuple[slice, slice]:
    """Give the rows and columns of the canvas that a lot's face can reach."""
    ends = [canvas.camera.project((wall, y, z)) for y in (0.0, lot.height + 2.0) for z in (lot.near, lot.far)]
    columns = sorted(min(max(round(column), 0), canvas.width) for column, _ in ends)
    rows = sorted(min(max(int(row) + 1, 0), canvas.height) for _, row in ends)
    return slice(rows[0], rows[-1]), slice(columns[0], columns[-1])
