"""Traffic: what stands and moves in one street, and where.

People, trees, lamps and signs are built here from a few flat shapes each; vehicles have a file of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from gss.data.scenes.canvas import (
    BICYCLE,
    LIGHT,
    PERSON,
    POLE,
    RIDER,
    SIGN,
    STATIC,
    VEGETATION,
    Canvas,
    Colour,
    darker,
    pick,
)
from gss.data.scenes.layout import Layout
from gss.data.scenes.vehicles import PAINTS, paint_bus, paint_car, paint_truck

Thing = tuple[float, Callable[[], None]]
"""A thing's distance, metres, and what paints it: far things are painted first."""

_COATS: tuple[Colour, ...] = (
    (180, 50, 60), (50, 80, 150), (60, 60, 66), (200, 190, 170), (70, 120, 90), (220, 150, 60),
    (120, 70, 120),
)  # fmt: skip
_TROUSERS: tuple[Colour, ...] = ((48, 52, 70), (70, 62, 56), (36, 36, 40), (96, 104, 120))
_SKINS: tuple[Colour, ...] = ((224, 182, 150), (190, 140, 108), (120, 84, 62))
_HAIR: tuple[Colour, ...] = ((52, 38, 30), (24, 22, 22), (150, 116, 70))
_LEAVES: tuple[Colour, ...] = ((80, 116, 46), (100, 128, 52), (60, 100, 54), (164, 126, 50))
_METAL, _RED = (104.0, 108.0, 112.0), (196.0, 30.0, 36.0)
_WHITE, _BLUE = (236.0, 236.0, 230.0), (30.0, 84.0, 168.0)


def paint_traffic(canvas: Canvas, rng: np.random.Generator, layout: Layout) -> None:
    """Choose everything that stands in the street, and paint it from far to near."""
    things: list[Thing] = []
    for side in (-1, 1):
        things += _on_the_road(canvas, rng, layout, side)
        things += _at_the_curb(canvas, rng, layout, side)
    things += _walkers(canvas, rng, layout)
    for _, paint in sorted(things, key=lambda thing: -thing[0]):
        paint()


def _on_the_road(canvas: Canvas, rng: np.random.Generator, layout: Layout, side: int) -> list[Thing]:
    """Fill one lane: cars, now and then a bus, a truck or a cyclist; the left lane comes towards us."""
    things: list[Thing] = []
    z, lane = float(rng.uniform(7, 22)), layout.middle + side * layout.road * 0.42
    while z < 75:
        x, kind = lane + float(rng.uniform(-0.3, 0.3)), rng.random()
        if side == 1 and kind < 0.14:
            things.append((z, partial(paint_bus, canvas, rng, x, z)))
        elif side == 1 and kind < 0.26:
            things.append((z, partial(paint_truck, canvas, rng, x, z)))
        elif kind < 0.4:
            things.append((z, partial(paint_cyclist, canvas, rng, layout.curb(side) - side * 0.8, z)))
        else:
            things.append((z, partial(paint_car, canvas, rng, x, z, side == -1)))
        z += float(rng.uniform(12, 30))
    return things


def _at_the_curb(canvas: Canvas, rng: np.random.Generator, layout: Layout, side: int) -> list[Thing]:
    """Line one curb with trees, lamps, signs and bins, parked cars before them, lights at the crossing."""
    things: list[Thing] = []
    curb, planted, parking = layout.curb(side), rng.random() < 0.6, rng.random() < 0.45
    x = curb + side * 0.7
    for index, z in enumerate(np.arange(rng.uniform(5, 10), 80, 7.0).tolist()):
        kind = rng.random()
        if planted and kind < 0.75:
            things.append((z, partial(paint_tree, canvas, rng, x, z)))
        elif kind < 0.3 or index % 3 == 0:
            things.append((z, partial(paint_lamp, canvas, x, z, -side * 1.6)))
        elif kind < 0.6:
            things.append((z, partial(paint_sign, canvas, rng, x, z)))
        elif kind < 0.7:
            things.append((z, partial(paint_bin, canvas, x, z)))
        if parking and rng.random() < 0.6:
            things.append((z + 1, partial(paint_car, canvas, rng, curb - side, z + 1, side == -1)))
    if layout.crossing is not None:
        z = layout.crossing
        things.append((z, partial(paint_traffic_light, canvas, rng, curb + side * 0.4, z)))
    return things


def _walkers(canvas: Canvas, rng: np.random.Generator, layout: Layout) -> list[Thing]:
    """Put people on the sidewalks, and some on the crossing."""
    things: list[Thing] = []
    for _ in range(int(rng.integers(3, 9))):
        side, z = int(rng.choice((-1, 1))), float(rng.uniform(5, 40))
        x = layout.curb(side) + side * float(rng.uniform(1.2, layout.sidewalk - 0.3))
        things.append((z, partial(paint_person, canvas, rng, x, z)))
    if layout.crossing is not None and rng.random() < 0.7:
        for _ in range(int(rng.integers(1, 4))):
            z = layout.crossing + float(rng.uniform(0.5, 2.5))
            x = layout.middle + float(rng.uniform(-1, 1)) * layout.road
            things.append((z, partial(paint_person, canvas, rng, x, z)))
    return things


def paint_person(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """Paint a walker."""
    tall, stride = rng.uniform(1.55, 1.88), rng.uniform(0.08, 0.26)
    coat, trousers = pick(rng, _COATS), pick(rng, _TROUSERS)
    hip, shoulder = 0.5 * tall, 0.83 * tall
    canvas.shadow(x, z, 0.45, 0.5)
    for foot in (x - stride, x + stride):
        corners = [(x - 0.11, hip + 0.05, z), (x + 0.11, hip + 0.05, z), (foot + 0.08, 0.0, z), (foot - 0.08, 0.0, z)]
        canvas.polygon(corners, PERSON, trousers, 0.65)
    for arm in (-1, 1):
        hand = x + arm * (0.2 + stride / 2)
        corners = [(x + arm * 0.2, shoulder, z), (x + arm * 0.28, shoulder - 0.04, z), (hand + arm * 0.04, hip, z)]
        canvas.polygon([*corners, (hand - arm * 0.04, hip, z)], PERSON, darker(coat, 0.8), 0.65)
    _paint_bust(canvas, rng, x, z, (hip - 0.05, shoulder), coat, PERSON)


def paint_cyclist(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """Paint a bicycle and its rider from behind."""
    coat = pick(rng, _COATS)
    canvas.shadow(x, z, 0.4, 0.5)
    canvas.ellipse((x, 0.36, z), (0.09, 0.36), BICYCLE, (40, 40, 44), 0.6)
    canvas.box(x - 0.3, x + 0.3, 1.0, 1.08, z, BICYCLE, (60, 60, 66), 0.6)
    canvas.box(x - 0.06, x + 0.06, 0.5, 1.0, z, BICYCLE, pick(rng, PAINTS), 0.7)
    for leg in (-1, 1):
        hip = [(x + leg * 0.06, 1.0, z), (x + leg * 0.2, 0.95, z)]
        canvas.polygon([*hip, (x + leg * 0.17, 0.3, z), (x + leg * 0.08, 0.3, z)], RIDER, (44, 48, 64), 0.65)
    _paint_bust(canvas, rng, x, z, (0.92, 1.42), coat, RIDER)


def _paint_bust(
    canvas: Canvas,
    rng: np.random.Generator,
    x: float,
    z: float,
    heights: tuple[float, float],
    coat: Colour,
    label_id: int,
) -> None:
    """Paint a back from hip to shoulder, and a head with hair."""
    hip, shoulder = heights
    corners = [(x - 0.18, hip, z), (x - 0.23, shoulder, z), (x, shoulder + 0.06, z), (x + 0.23, shoulder, z)]
    canvas.polygon([*corners, (x + 0.18, hip, z)], label_id, coat, 0.75)
    canvas.ellipse((x, shoulder + 0.16, z), (0.11, 0.14), label_id, pick(rng, _SKINS), 0.8)
    canvas.ellipse((x, shoulder + 0.22, z), (0.12, 0.1), label_id, pick(rng, _HAIR), 0.8)


def paint_tree(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """Paint a street tree: a trunk and a crown of overlapping leaves, lit from above."""
    trunk, spread, green = rng.uniform(2.2, 3.2), rng.uniform(1.2, 2.1), pick(rng, _LEAVES)
    canvas.shadow(x, z, spread, 0.4)
    canvas.box(x - 0.13, x + 0.13, 0.0, trunk + 0.6, z, VEGETATION, (84, 66, 50), 0.6)
    count = min(max(int(900 / z), 18), 120)  # near crowns need more and finer leaves than far ones
    angles, radii = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.random(count)) * spread
    across, up = radii * np.cos(angles), 0.95 * radii * np.sin(angles)
    tones = np.maximum(0.85 + 0.3 * up / spread + rng.normal(0, 0.1, count), 0.2)
    sizes = rng.uniform(0.22, 0.48, count) * (44 / count) ** 0.4
    for right, high, tone, size in np.stack([across, up, tones, sizes], axis=1).tolist():
        centre = (x + right, trunk + 0.9 * spread + high, z)
        canvas.ellipse(centre, (size, 0.85 * size), VEGETATION, darker(green, tone), 0.8)


def paint_lamp(canvas: Canvas, x: float, z: float, reach: float) -> None:
    """Paint a street lamp whose arm reaches over the road."""
    canvas.box(x - 0.07, x + 0.07, 0.0, 6.4, z, POLE, _METAL, 0.7)
    canvas.box(min(x, x + reach), max(x, x + reach), 6.3, 6.42, z, POLE, _METAL, 0.7)
    glow = (255.0, 232.0, 180.0) if canvas.light.lamps > 0 else (190.0, 192.0, 190.0)
    canvas.box(x + reach - 0.25, x + reach + 0.25, 6.18, 6.34, z, POLE, glow, 1.0)


def paint_sign(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """Paint a traffic sign on its post: a red ring, a blue disc or a warning triangle."""
    canvas.box(x - 0.045, x + 0.045, 0.0, 2.5, z, POLE, _METAL, 0.7)
    kind, y = int(rng.integers(3)), 2.6
    rim, face = ((_RED, _WHITE), (_WHITE, _BLUE), (_RED, _WHITE))[kind]
    for radius, colour in ((0.42, rim), (0.3, face)):
        if kind == 2:
            low, edge = y - 0.6 * radius, 1.1 * radius
            corners = [(x - edge, low, z), (x + edge, low, z), (x, y + 1.1 * radius, z)]
            canvas.polygon(corners, SIGN, colour, 1.0)
        else:
            canvas.ellipse((x, y, z), (radius, radius), SIGN, colour, 1.0)


def paint_traffic_light(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """Paint a traffic light that shows green, amber or red."""
    canvas.box(x - 0.06, x + 0.06, 0.0, 2.7, z, POLE, (60, 64, 66), 0.7)
    canvas.box(x - 0.24, x + 0.24, 2.6, 3.7, z, LIGHT, (36, 38, 40), 0.8)
    shown = int(rng.integers(3))
    for place, colour in enumerate(((70.0, 230.0, 130.0), (255.0, 190.0, 60.0), (255.0, 60.0, 50.0))):
        seen = colour if place == shown else darker(colour, 0.25)
        canvas.ellipse((x, 2.8 + 0.35 * place, z), (0.13, 0.13), LIGHT, seen, 1.0)


def paint_bin(canvas: Canvas, x: float, z: float) -> None:
    """Paint a litter bin, which the benchmark leaves unlabelled."""
    canvas.shadow(x, z, 0.4, 0.5)
    canvas.box(x - 0.25, x + 0.25, 0.0, 0.95, z, STATIC, (66, 92, 70), 0.6)
    canvas.box(x - 0.29, x + 0.29, 0.95, 1.05, z, STATIC, (46, 62, 50), 0.8)
