"""Traffic: what stands and moves in one street, and where."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from gss.data.scenes.canvas import Canvas
from gss.data.scenes.figures import (
    paint_bin,
    paint_cyclist,
    paint_lamp,
    paint_person,
    paint_sign,
    paint_traffic_light,
    paint_tree,
)
from gss.data.scenes.layout import Layout
from gss.data.scenes.vehicles import paint_bus, paint_car, paint_truck

Thing = tuple[float, Callable[[], None]]
"""A thing's distance, metres, and what paints it: far things are painted first."""


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
