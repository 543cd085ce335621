"""Layout: how wide the street is and what lines it, drawn at random before anything is painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gss.data.scenes.canvas import BUILDING, FENCE, VEGETATION, WALL, Colour

_PLASTER: tuple[Colour, ...] = (
    (204, 178, 146), (176, 110, 88), (206, 196, 178), (150, 150, 156), (188, 148, 96), (160, 88, 70),
    (132, 142, 150), (214, 186, 130), (170, 178, 168), (118, 104, 98),
)  # fmt: skip
_AWNINGS: tuple[Colour, ...] = ((170, 40, 40), (40, 90, 120), (40, 110, 70), (210, 160, 60), (120, 60, 110))
_FIRST, _END = 1.5, 150.0  # where the lots begin and where the street fades out, metres


@dataclass(frozen=True)
class Layout:
    """The street's cross-section in metres; sides are -1 (left) and +1 (right).

    Args:
        middle: x of the middle of the road, seen from the camera.
        road: half the width of the road.
        sidewalk: width of each sidewalk.
        grass: width of the strip of grass behind the left and the right sidewalk.
        crossing: distance of a zebra crossing, None without one.
    """

    middle: float
    road: float
    sidewalk: float
    grass: tuple[float, float]
    crossing: float | None

    def curb(self, side: int) -> float:
        """Give x of the curb on a side."""
        return self.middle + side * self.road

    def wall(self, side: int) -> float:
        """Give x of the façades on a side."""
        return self.curb(side) + side * (self.sidewalk + self.grass[(side + 1) // 2])


@dataclass(frozen=True)
class Lot:
    """One building, hedge, wall or fence along the street, from `near` to `far` metres ahead.

    A building has storeys of `floor` metres, windows every `bay` metres, and shops under an `awning`.
    """

    near: float
    far: float
    label_id: int
    height: float
    colour: Colour
    floor: float
    bay: float
    awning: Colour


def draw_layout(rng: np.random.Generator) -> Layout:
    """Choose the widths of the street; the camera drives in the right lane."""
    road = float(rng.uniform(3.8, 5.6))
    left, right = rng.choice((0.0, 0.0, 2.5), size=2).tolist()
    return Layout(
        middle=-road / 2 + float(rng.uniform(-0.5, 0.6)),
        road=road,
        sidewalk=float(rng.uniform(2.4, 3.8)),
        grass=(left, right),
        crossing=float(rng.uniform(8, 22)) if rng.random() < 0.35 else None,
    )


def draw_lots(rng: np.random.Generator) -> list[Lot]:
    """Line one side of the street with lots, more or less of them built up."""
    green = rng.choice((0.2, 0.5))
    lots: list[Lot] = []
    near = _FIRST
    while near < _END:
        far = near + float(rng.uniform(9, 24))
        lots.append(_draw_lot(rng, near, far, built=bool(rng.random() >= green)))
        near = far
    return lots


def _draw_lot(rng: np.random.Generator, near: float, far: float, built: bool) -> Lot:
    """Choose what stands on one lot, how high it is and which colour it has."""
    label_id, lowest, highest, colour = (
        (VEGETATION, 2.5, 6.5, (70.0, 104.0, 50.0)),
        (WALL, 1.8, 3.2, (150.0, 140.0, 132.0)),
        (FENCE, 1.3, 2.1, (112.0, 98.0, 84.0)),
        (BUILDING, 6.0, 16.0, _PLASTER[int(rng.integers(len(_PLASTER)))]),
    )[3 if built else int(rng.choice(3, p=(0.5, 0.25, 0.25)))]
    varied = np.clip(np.array(colour) * rng.uniform(0.8, 1.12) + rng.normal(0, 6, 3), 20, 235).tolist()
    return Lot(
        near=near,
        far=far,
        label_id=label_id,
        height=float(rng.uniform(lowest, highest)),
        colour=(varied[0], varied[1], varied[2]),
        floor=float(rng.uniform(2.8, 3.6)),
        bay=float(rng.uniform(1.9, 3.2)),
        awning=_AWNINGS[int(rng.integers(len(_AWNINGS)))],
    )
