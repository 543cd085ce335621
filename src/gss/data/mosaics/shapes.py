"""Shapes as gauges: a number for every pixel, small inside; the pixels below a level are a smaller or larger copy.

Each function gives a score (H, W) float32 for rows and columns, (H, 1) and (1, W) float32, in picture heights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Gauge = Callable[[np.random.Generator, Field, Field], Field]


def top(rng: np.random.Generator, rows: Field, columns: Field) -> Field:
    """From the upper edge down, with a tilted and slightly wavy lower border."""
    return _field(rows + _border(rng, columns))


def bottom(rng: np.random.Generator, rows: Field, columns: Field) -> Field:
    """From the lower edge up: as `top`, and narrowing towards a vanishing point, as roads do."""
    vanishing = rng.uniform(0.2, 0.8) * columns.max()
    return _field(-rows + _border(rng, columns) + rng.uniform(0, 0.8) * np.abs(columns - vanishing))


def slab(rng: np.random.Generator, rows: Field, columns: Field) -> Field:
    """An upright field with a slanted upper border, as a building or a wardrobe."""
    slant = rng.normal(0, 0.15) * (columns - columns.mean())
    return _field(np.maximum(np.abs(columns - _somewhere(rng, columns)), _reach(rng) * (0.5 - rows + slant)))


def box(rng: np.random.Generator, rows: Field, columns: Field) -> Field:
    """A quadrangle that was a rectangle before a change of view."""
    turn = rng.normal(0, 0.12) + np.arange(4) * np.pi / 2 + rng.normal(0, 0.1, 4)
    aspect = float(np.exp(rng.normal(0, 0.4)))
    sides = np.exp(rng.normal(0, 0.1, 4)) * np.array([aspect, 1, aspect, 1])
    across, down = columns - _somewhere(rng, columns), rows - rng.uniform(0.25, 0.85)
    planes = [(np.cos(a) * across + np.sin(a) * down) / side for a, side in zip(turn, sides, strict=True)]
    return _field(np.maximum.reduce(planes))


def blob(rng: np.random.Generator, rows: Field, columns: Field) -> Field:
    """A round outline with a few soft bulges, as plants and people have."""
    across, down = columns - _somewhere(rng, columns), rows - rng.uniform(0.25, 0.9)
    down = down / np.float32(np.exp(rng.normal(0.2, 0.3)))
    angle, bulge = np.arctan2(down, across), 1.0
    for waves in (2, 3, 5):
        bulge = bulge + rng.uniform(0, 0.35) / waves * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    return _field(np.hypot(across, down) / bulge)


def post(rng: np.random.Generator, rows: Field, columns: Field) -> Field:
    """An upright bar, some eight times as high as wide."""
    lean = rng.normal(0, 0.03)
    down = rows - rng.uniform(0.2, 0.8)
    slenderness, across = rng.uniform(6, 12), columns - _somewhere(rng, columns) - lean * down
    return _field(np.maximum(slenderness * np.abs(across), np.abs(down)))


def rail(rng: np.random.Generator, rows: Field, columns: Field) -> Field:
    """A bar along a slightly tilted line, some seven times as long as high."""
    across = columns - _somewhere(rng, columns)
    down = rows - rng.uniform(0.3, 0.9) - rng.normal(0, 0.1) * across
    return _field(np.maximum(np.abs(across), rng.uniform(4, 10) * np.abs(down)))


GAUGES: dict[str, Gauge] = {
    "top": top, "bottom": bottom, "slab": slab, "box": box, "blob": blob, "post": post, "rail": rail,
}  # fmt: skip
INSTANCES = {"top": 1, "bottom": 1, "slab": 2, "box": 2, "blob": 3, "post": 3, "rail": 1}
"""At most so many shapes of one class in a scene."""


def _border(rng: np.random.Generator, columns: Field) -> Field:
    """Height of a border along the columns, (1, W) float32."""
    line = rng.normal(0, 0.12) * (columns - columns.mean())
    waves = rng.uniform(0, 0.03) * np.sin(rng.uniform(2, 12) * columns + rng.uniform(0, 6))
    return _field(line + waves)


def _field(scores: NDArray[np.floating]) -> Field:
    """(H, W) of any precision as float32."""
    return np.asarray(scores, np.float32)


def _somewhere(rng: np.random.Generator, columns: Field) -> float:
    return float(rng.uniform(0, columns.max()))


def _reach(rng: np.random.Generator) -> float:
    """How much faster a slab grows to the sides than upwards."""
    return float(rng.uniform(0.2, 0.9))
