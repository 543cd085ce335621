"""Vehicles: cars, buses and trucks, built from a few flat shapes each."""

from __future__ import annotations

import numpy as np

from gss.data.scenes.canvas import BUS, CAR, TRUCK, Canvas, Colour, Point, darker, pick

PAINTS: tuple[Colour, ...] = (
    (186, 36, 36), (38, 74, 140), (222, 222, 226), (46, 48, 54), (140, 146, 152), (214, 170, 60),
    (60, 110, 88), (120, 130, 170), (170, 90, 50),
)  # fmt: skip
"""What cars and bicycles are painted with."""

_GLASS, _TYRE, _REAR_LAMP = (52.0, 64.0, 76.0), (26.0, 26.0, 28.0), (206.0, 24.0, 28.0)


def paint_car(canvas: Canvas, rng: np.random.Generator, x: float, z: float, oncoming: bool) -> None:
    """Paint a car whose middle is `x` metres to the right, its near end `z` metres ahead."""
    colour, half = pick(rng, PAINTS), rng.uniform(0.82, 0.93)
    length, roof, waist = rng.uniform(3.8, 4.7), rng.uniform(1.4, 1.62), rng.uniform(0.86, 0.98)
    canvas.shadow(x, z + 0.3, 1.25, 0.65)
    if abs(x) > half:  # the flank that faces the middle of the picture is in sight
        inner = -1 if x > 0 else 1
        flank, far = x + inner * half, z + length
        _paint_flank(canvas, flank, (z, far), (0.3, waist), CAR, colour)
        top = flank - inner * 0.14
        cabin = [(flank, waist, z + 0.35), (top, roof, z + 1.0), (top, roof, far - 1.7), (flank, waist, far - 1)]
        canvas.polygon(cabin, CAR, _GLASS, 0.6)
        for wheel in (z + 0.75, far - 0.85):
            canvas.polygon(_wheel(flank, wheel, 0.34), CAR, _TYRE, 0.5)
    _paint_car_end(canvas, x, z, half, (waist, roof), colour, oncoming)


def _paint_car_end(
    canvas: Canvas, x: float, z: float, half: float, heights: tuple[float, float], colour: Colour, oncoming: bool
) -> None:
    """Paint the end of a car that faces the camera."""
    waist, roof = heights
    for wheel in (x - half + 0.02, x + half - 0.26):
        canvas.box(wheel, wheel + 0.24, 0.0, 0.4, z, CAR, _TYRE, 0.4)
    for low, high, deep, colour_ in ((0.0, 0.2, 0.5, colour), (0.14, 0.27, 0.4, _GLASS)):
        left, right, edge = x - half, x + half, roof - (high - 0.2) * 1.4
        corners = [(left + low, waist, z), (left + high, edge, z + deep), (right - high, edge, z + deep)]
        canvas.polygon([*corners, (right - low, waist, z)], CAR, colour_, 0.75)
    canvas.box(x - half, x + half, 0.28, waist, z, CAR, colour, 0.6)
    canvas.box(x - half, x + half, 0.28, 0.45, z, CAR, darker(colour, 0.55), 0.6)
    for edge in (x - half, x + half - 0.32):
        lamp = (255.0, 246.0, 214.0) if oncoming else _REAR_LAMP
        canvas.box(edge, edge + 0.32, waist - 0.28, waist - 0.1, z, CAR, lamp, 1.0)
    canvas.box(x - 0.26, x + 0.26, 0.48, 0.6, z, CAR, (226, 226, 214), 0.7)


def paint_bus(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """Paint a city bus from behind."""
    colour = pick(rng, ((206, 166, 50), (178, 50, 48), (60, 110, 140)))
    _paint_long(canvas, (x, 0.0, z), (1.25, 3.0, 11.0), BUS, colour, _GLASS)


def paint_truck(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """Paint a box truck from behind."""
    colour = pick(rng, ((206, 206, 202), (90, 110, 140), (170, 150, 120)))
    _paint_long(canvas, (x, 0.0, z), (1.2, 3.3, 7.5), TRUCK, colour, darker(colour, 0.86))


def _paint_long(canvas: Canvas, place: Point, size: Point, label_id: int, colour: Colour, panel: Colour) -> None:
    """Paint the long box that bus and truck share; `size` is half the width, the height and the length."""
    (x, _, z), (half, roof, length) = place, size
    canvas.shadow(x, z + 0.3, 1.8, 0.7)
    if abs(x) > half:
        flank = x - half if x > 0 else x + half
        _paint_flank(canvas, flank, (z, z + length), (0.4, roof), label_id, colour)
        _paint_flank(canvas, flank, (z + 0.5, z + length - 0.3), (1.4, roof - 0.5), label_id, panel)
        for wheel in (z + 1.6, z + length - 1.8):
            canvas.polygon(_wheel(flank, wheel, 0.45), label_id, _TYRE, 0.4)
    for edge in (x - half + 0.1, x + half - 0.45):
        canvas.box(edge, edge + 0.35, 0.0, 0.5, z, label_id, _TYRE, 0.4)
    canvas.box(x - half, x + half, 0.4, roof, z, label_id, colour, 0.6)
    canvas.box(x - half + 0.14, x + half - 0.14, 1.5, roof - 0.35, z, label_id, panel, 0.7)
    canvas.box(x - half, x + half, 0.4, 0.62, z, label_id, darker(colour, 0.4), 0.6)
    for edge in (x - half + 0.05, x + half - 0.3):
        canvas.box(edge, edge + 0.25, 0.68, 0.95, z, label_id, _REAR_LAMP, 1.0)


def _paint_flank(
    canvas: Canvas, x: float, span: tuple[float, float], heights: tuple[float, float], label_id: int, colour: Colour
) -> None:
    """Paint an upright rectangle that runs along the street."""
    (near, far), (low, high) = span, heights
    canvas.polygon([(x, low, near), (x, high, near), (x, high, far), (x, low, far)], label_id, colour, 0.35)


def _wheel(x: float, z: float, radius: float) -> list[Point]:
    """Outline a wheel that is seen from the side."""
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ups, aheads = (radius * (1 + np.sin(turn))).tolist(), (z + radius * np.cos(turn)).tolist()
    return [(x, up, ahead) for up, ahead in zip(ups, aheads, strict=True)]
