"""Canvas: a pinhole camera that paints world-space shapes into an image and its label ids at once.

Beside it what every painter of a scene needs: Light, which colours a surface by sun and haze, Noise, which keeps it
from being flat, and the Cityscapes label ids that scenes are drawn with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from gss.data.cityscapes import LABEL_IDS

Colour = tuple[float, float, float]
"""Red, green, blue, each 0 .. 255."""

Point = tuple[float, float, float]
"""World metres: to the right of the camera, above the road, ahead of the camera."""

ROAD, SIDEWALK, TERRAIN, SKY = (LABEL_IDS[name] for name in ("road", "sidewalk", "terrain", "sky"))
BUILDING, WALL, FENCE, VEGETATION = (LABEL_IDS[name] for name in ("building", "wall", "fence", "vegetation"))
POLE, LIGHT, SIGN = (LABEL_IDS[name] for name in ("pole", "traffic light", "traffic sign"))
PERSON, RIDER, BICYCLE = (LABEL_IDS[name] for name in ("person", "rider", "bicycle"))
CAR, TRUCK, BUS = (LABEL_IDS[name] for name in ("car", "truck", "bus"))
EGO_VEHICLE, STATIC = 1, 4  # the camera's own car and small fixed things: both ignored by the benchmark

_SHIFT = 4  # OpenCV draws with 4 binary places of a pixel
_ONE = 1 << _SHIFT
_SIDE = 256  # cells of a tile of noise
_FINE = 4  # the soft tile is stored this much finer, so that plain indexing shows no squares


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera: `focal`, `centre` (column), `horizon` (row) in pixels; `height` in metres."""

    focal: float
    centre: float
    horizon: float
    height: float

    def project(self, point: Point) -> tuple[float, float]:
        """Give the (column, row) of a world point, pixels."""
        x, y, z = point
        return self.centre + self.focal * x / z, self.horizon + self.focal * (self.height - y) / z


@dataclass(frozen=True)
class Light:
    """The mood of a scene.

    Args:
        zenith: colour of the sky at the top.
        haze: colour of the sky at the horizon, into which far things fade.
        sun: factor per channel on surfaces in the light.
        shade: factor per channel on surfaces in the shadow.
        sight: distance at which two thirds of a colour are lost in haze, metres.
        shadow: metres of shadow on the ground per metre of height.
        lamps: how bright windows and lamps glow, [0, 1].
        sun_side: -1 when the sun stands on the left of the street, +1 on the right.
    """

    zenith: Colour
    haze: Colour
    sun: Colour
    shade: Colour
    sight: float
    shadow: float
    lamps: float
    sun_side: int

    def falls_on(
        self, colour: NDArray[np.floating], lit: NDArray[np.floating] | float, z: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        """Shade a surface colour and fade it with distance.

        Args:
            colour: (..., 3) surface colour, 0 .. 255.
            lit: (...) 0 in full shadow to 1 in full sun.
            z: (...) distance, metres.

        Returns:
            (..., 3) float32 colour as the camera sees it, 0 .. 255.
        """
        share = np.asarray(lit, np.float32)[..., None]
        factor = rgb(self.shade) * (1 - share) + rgb(self.sun) * share
        clear = np.exp(-z / self.sight)[..., None]
        seen = colour * factor * clear + rgb(self.haze) * (1 - clear)
        return np.asarray(np.clip(seen, 0, 255), np.float32)

    def falls_on_flat(self, colour: Colour, lit: float, z: float) -> Colour:
        """Do the same for one colour; a scene asks hundreds of times, which arrays would make slow."""
        clear = math.exp(-z / self.sight)
        channels = zip(colour, self.shade, self.sun, self.haze, strict=True)
        red, green, blue = [
            c * (dark + (light - dark) * lit) * clear + far * (1 - clear) for c, dark, light, far in channels
        ]
        return red, green, blue


@dataclass
class Canvas:
    """What is painted so far: `image` (H, W, 3) uint8 and `ids` (H, W) uint8 Cityscapes label ids."""

    height: int
    width: int
    camera: Camera
    light: Light
    image: NDArray[np.uint8] = field(init=False)
    ids: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        """Start from black and label id 0, unlabelled."""
        self.image = np.zeros((self.height, self.width, 3), np.uint8)
        self.ids = np.zeros((self.height, self.width), np.uint8)

    def polygon(self, points: Sequence[Point], label_id: int, colour: Colour, lit: float = 0.8) -> None:
        """Fill a flat shape; its colour is shaded by `lit` (0 to 1) and fades with its distance."""
        corners = np.array([_fixed(self.camera.project(point)) for point in points], np.int32)
        seen = self.light.falls_on_flat(colour, lit, sum(z for _, _, z in points) / len(points))
        cv2.fillPoly(self.image, [corners], seen, shift=_SHIFT)
        cv2.fillPoly(self.ids, [corners], label_id, shift=_SHIFT)

    def ellipse(
        self, centre: Point, radii: tuple[float, float], label_id: int, colour: Colour, lit: float = 0.8
    ) -> None:
        """Fill an upright ellipse that faces the camera; `radii` (across, up) in metres."""
        scale = self.camera.focal / centre[2]
        middle = _fixed(self.camera.project(centre))
        axes = _fixed((max(radii[0] * scale, 0.5), max(radii[1] * scale, 0.5)))
        seen = self.light.falls_on_flat(colour, lit, centre[2])
        cv2.ellipse(self.image, middle, axes, 0, 0, 360, seen, -1, shift=_SHIFT)
        cv2.ellipse(self.ids, middle, axes, 0, 0, 360, label_id, -1, shift=_SHIFT)

    def box(
        self,
        left: float,
        right: float,
        low: float,
        high: float,
        z: float,
        label_id: int,
        colour: Colour,
        lit: float = 0.8,
    ) -> None:
        """Fill an upright rectangle that faces the camera; edges in metres."""
        corners = [(left, low, z), (right, low, z), (right, high, z), (left, high, z)]
        self.polygon(corners, label_id, colour, lit)

    def shadow(self, x: float, z: float, radius: float, strength: float = 0.5) -> None:
        """Darken the ground under a thing that stands at (x, z); the labels stay."""
        column, row = self.camera.project((x, 0.0, z))
        scale = self.camera.focal / z
        across, deep = radius * scale, max(0.3 * radius * scale * self.camera.height / z * 3, 1.0)
        top, left = max(int(row - deep) - 1, 0), max(int(column - across) - 1, 0)
        patch = self.image[top : int(row + deep) + 2, left : int(column + across) + 2]
        if not patch.size:
            return
        rows = np.arange(top, top + patch.shape[0])[:, None]
        columns = np.arange(left, left + patch.shape[1])
        distance = ((columns - column) / across) ** 2 + ((rows - row) / deep) ** 2
        factor = 1 - strength * np.clip(1.2 * (1 - distance), 0, 1)
        patch[:] = (patch * factor[..., None]).astype(np.uint8)


class Noise:
    """The texture of one scene: a part of the common tiles, chosen at random.

    Args:
        rng: chooses the part.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        """Choose where to look; the tiles repeat every 256 cells."""
        self._origin = rng.uniform(0, _SIDE, 2).tolist()

    def cloud(self, u: NDArray[np.floating], v: NDArray[np.floating], cells: float) -> NDArray[np.float32]:
        """Look up soft noise at u and v, (...) float to (...) float32, mean about 0 and deviation about 1.

        One unit of u or v spans `cells` of the 256 cells.
        """
        return self._look_up(_tiles()[0], u, v, cells, _FINE)

    def grain(self, u: NDArray[np.floating], v: NDArray[np.floating], cells: float) -> NDArray[np.float32]:
        """Look up white noise, (...) float to (...) float32, mean 0 and deviation 1; cells as in `cloud`."""
        return self._look_up(_tiles()[1], u, v, cells, 1)

    def _look_up(
        self, tile: NDArray[np.float32], u: NDArray[np.floating], v: NDArray[np.floating], cells: float, fine: int
    ) -> NDArray[np.float32]:
        """Index a tile (side, side) by wrapped cell numbers: u, v (...) to (...) float32; side is a power of two."""
        rows, columns = (
            np.floor((axis * cells + start) * fine).astype(np.int32) & (len(tile) - 1)
            for axis, start in zip((u, v), self._origin, strict=True)
        )
        return np.asarray(tile[rows, columns], np.float32)


def rgb(colour: Sequence[float]) -> NDArray[np.float32]:
    """Turn a colour, 0 .. 255, or a factor per channel into an array for arithmetic, (3,) float32."""
    return np.asarray(colour, np.float32)


def pick(rng: np.random.Generator, colours: Sequence[Colour]) -> Colour:
    """Choose one colour."""
    return colours[int(rng.integers(len(colours)))]


def darker(colour: Colour, factor: float) -> Colour:
    """Scale a colour by a factor, which above 1 makes it brighter."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _fixed(pixels: tuple[float, float]) -> tuple[int, int]:
    """Turn (column, row) or a pair of lengths into OpenCV's fixed-point numbers."""
    return round(pixels[0] * _ONE), round(pixels[1] * _ONE)


@cache
def _tiles() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Make the soft tile, whose amplitude falls with frequency as in clouds and foliage, and the white one.

    They are (1024, 1024) and (256, 256) float32 of deviation about 1. White
    noise is shaped in the frequency domain, which makes the tile seamless for free.
    """
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE)[None]) * _SIDE
    spectrum = np.fft.rfft2(rng.standard_normal((_SIDE, _SIDE))) / np.maximum(frequency, 1.5) ** 1.2
    soft = np.fft.irfft2(spectrum)
    framed = np.pad(soft / soft.std(), 1, mode="wrap").astype(np.float32)  # so that resizing keeps it seamless
    cloud = np.asarray(cv2.resize(framed, None, fx=_FINE, fy=_FINE), np.float32)[_FINE:-_FINE, _FINE:-_FINE]
    return np.ascontiguousarray(cloud), rng.standard_normal((_SIDE, _SIDE)).astype(np.float32)
