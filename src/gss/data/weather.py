"""Fog, lamplight, falling rain and snow, and sun glare as albumentations transforms, drawn relative to the picture.

albumentations 2.0.8 has transforms of these names, but at the sizes of driving images its fog is a heap of discs
and a blur, its rain a set of equal bars whose number and width do not follow the picture's size, its settled snow
brightens whatever is darker than a threshold (snow as a texture runs over in hue and paints skies black), its flare
draws rings, at 1024 rows discs as large as the picture, and it has no night. Those below need no depth map: they take
the camera of a car over a flat road.

Lengths are in heights of the picture, so that an image looks the same at 360 and at 1024 rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Field = NDArray[np.float32]

_HORIZON = 0.45  # of the height, from the top: where a level road ends in an image from a car
_NEARNESS = 0.15  # heights below the horizon at which the road is half as far as what counts as far away
_EDGE = 0.7  # pixels by which OpenCV's smoothed outlines are wider than asked for, on each side
_PLACES = 8  # among which the sun prefers the sky to a house
_DAYLIGHT, _LAMPS, _SUN = (
    np.array(colour, np.float32) for colour in ((0.8, 0.95, 1.3), (1.1, 1.0, 0.75), (1.0, 0.97, 0.88))
)
_GAMMA = 2.2  # stored values are light to the power of 1 / _GAMMA


class Fog(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations ships no types
    """Mix the image with the colour of the air, the more the farther away.

    I = J t + A (1 - t) with transmission t = exp(-density * distance) (Koschmieder's law, as in He, Sun and Tang,
    "Single Image Haze Removal Using Dark Channel Prior", CVPR 2009, eq. 1 and 2). Distance is that of a flat road,
    1 / (rows below the horizon), cut off at 1 for the horizon and all above it; clouds make the density uneven by half.

    Args:
        density: at the horizon exp(-density) of the image is left.
        air: grey of the air, smallest and largest, [0, 1].
    """

    def __init__(self, density: float, air: tuple[float, float] = (0.75, 0.9)) -> None:
        """Store the numbers; randomness comes from the pipeline."""
        super().__init__(p=1.0)
        self.density = density
        self.air = air

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the clouds, and sample the grey of the air."""
        clouds = draw_clouds(params["shape"][:2], self.random_generator)
        optical = -self.density * road_distance(params["shape"][0])[:, None] * (1 + clouds / 2)
        return {"transmission": np.exp(optical), "air": self.py_random.uniform(*self.air)}

    def apply(self, img: Image, transmission: Field, air: float, **params: Any) -> Image:
        """Mix (H, W, 3) uint8 with the air by the transmission (H, W) float32 in [0, 1]."""
        left = transmission[..., None]
        return to_bytes(img * (left / 255) + np.float32(air) * (1 - left))


class Lamplight(A.ImageOnlyTransform):  # type: ignore[misc]
    """Take the daylight away and light the road by the car's own headlights.

    Stored values become linear light, each pixel is multiplied by what light is left there, and stored again. That is
    a bluish remainder of daylight, less of it towards the zenith, so that skies get dark as well, and a warm cone of
    Gaussian shape on the road ahead.

    Args:
        daylight: share of the light that is left, (0, 1].
        headlights: what the headlights add where they are brightest, as a share of daylight.
    """

    def __init__(self, daylight: float, headlights: float) -> None:
        """Store the shares; randomness comes from the pipeline."""
        super().__init__(p=1.0)
        self.daylight = daylight
        self.headlights = headlights

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Sample where the headlights point."""
        rows, columns = axes(params["shape"][:2])
        x, y = self.py_random.uniform(-0.1, 0.1), self.py_random.uniform(0.7, 0.8)
        cone = np.exp(-(((columns - x) / 0.5) ** 2) - ((rows - y) / 0.18) ** 2)
        sky = 1 - 0.8 * np.clip(1 - rows / _HORIZON, 0, 1)
        daylight = self.daylight * sky[..., None] * _DAYLIGHT
        return {"light": daylight + self.headlights * cone[..., None] * _LAMPS}

    def apply(self, img: Image, light: Field, **params: Any) -> Image:
        """Relight (H, W, 3) uint8 by `light` (H, W, 3) float32, each channel a share of daylight."""
        linear = (np.arange(256, dtype=np.float32) / 255) ** np.float32(_GAMMA)
        return to_bytes((linear[img] * light) ** np.float32(1 / _GAMMA))


class Layer(NamedTuple):
    """Drops or flakes at one distance: how many per square of the picture's height, and their size in heights."""

    number: float
    length: float
    width: float


class Falling(A.ImageOnlyTransform):  # type: ignore[misc]
    """Draw rain or snow in the air: layer by layer, slanted streaks of uneven brightness, blurred by their width.

    Args:
        layers: from far (many and small) to near (few and large).
        opacity: of the brightest, [0, 1].
        colour: of the drops or flakes, (3,) uint8 RGB.
        slant: largest angle off the vertical, degrees; all of an image fall alike.
    """

    def __init__(self, layers: Sequence[Layer], opacity: float, colour: tuple[int, int, int], slant: float) -> None:
        """Store the parts; randomness comes from the pipeline."""
        super().__init__(p=1.0)
        self.layers = tuple(layers)
        self.opacity = opacity
        self.colour = np.array(colour, np.float32) / 255
        self.slant = slant

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Sample the slant and draw every layer, the nearer covering the farther."""
        size = params["shape"][:2]
        slant = np.deg2rad(self.py_random.uniform(-self.slant, self.slant))
        drawn = [draw_layer(size, layer, slant, self.random_generator) for layer in self.layers]
        return {"cover": np.maximum.reduce(drawn)}

    def apply(self, img: Image, cover: Field, **params: Any) -> Image:
        """Cover (H, W, 3) uint8 with the colour, as far as `cover` (H, W) float32 in [0, 1] says."""
        share = self.opacity * cover[..., None]
        return to_bytes(img * ((1 - share) / 255) + share * self.colour)


class SunGlare(A.ImageOnlyTransform):  # type: ignore[misc]
    """Let a low sun shine into the lens: a blinding disc, a halo around it, and a veil over the whole picture.

    The light is added by screening, 1 - (1 - image)(1 - glare), and falls off with the distance d as
    1 / (1 + (d / halo)^2), as stray light in lenses and eyes does in its tails.

    Args:
        brightness: of the halo next to the disc, [0, 1].
        halo: distance from the sun at which half of it is left, heights.
        veil: stray light everywhere, [0, 1].
    """

    def __init__(self, brightness: float, halo: float, veil: float) -> None:
        """Store the numbers; randomness comes from the pipeline."""
        super().__init__(p=1.0)
        self.brightness = brightness
        self.halo = halo
        self.veil = veil

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Sample where the sun stands: of a few places in the upper part, the one where the picture is brightest."""
        rows, columns = axes(params["shape"][:2])
        thumbnail = cv2.resize(data["image"], (32, 32), interpolation=cv2.INTER_AREA).mean(-1)
        places = self.random_generator.uniform((0.1, 0.05), (0.9, 0.35), (_PLACES, 2))  # shares of width and height
        across, down = max(places.tolist(), key=lambda place: thumbnail[int(32 * place[1]), int(32 * place[0])])
        squared = (columns - (across - 0.5) * params["shape"][1] / params["shape"][0]) ** 2 + (rows - down) ** 2
        disc = np.exp(-squared / (0.25 * self.halo) ** 2)
        halo = self.brightness / (1 + squared / self.halo**2)
        return {"glare": np.maximum(disc, halo * (1 - self.veil) + self.veil)}

    def apply(self, img: Image, glare: Field, **params: Any) -> Image:
        """Screen (H, W, 3) uint8 with the glare (H, W) float32 in [0, 1], which is slightly yellow."""
        light = glare[..., None] * _SUN
        return to_bytes(1 - (1 - img / np.float32(255)) * (1 - light))


def road_distance(height: int) -> Field:
    """How far away each row is, (H,) float32 in (0, 1]: 1 from the horizon up, below it that of a flat road."""
    below = np.maximum((np.arange(height, dtype=np.float32) + 0.5) / height - _HORIZON, 0)
    return np.asarray(_NEARNESS / (_NEARNESS + below), np.float32)


def axes(size: tuple[int, int]) -> tuple[Field, Field]:
    """Rows (H, 1) and columns (1, W) in heights of the picture, float32; columns count from the middle."""
    height, width = size
    rows = (np.arange(height) + 0.5) / height
    columns = (np.arange(width) + 0.5 - width / 2) / height
    return rows[:, None].astype(np.float32), columns[None].astype(np.float32)


def draw_clouds(size: tuple[int, int], random: np.random.Generator) -> Field:
    """Draw smooth unevenness, (H, W) float32 in [-1, 1]: three octaves of value noise, 2, 4 and 8 cells high."""
    height, width = size
    clouds = np.zeros(size, np.float32)
    for octave in range(3):
        cells = 2 ** (octave + 1)
        grid = random.uniform(-1, 1, (cells + 1, max(2, round(cells * width / height) + 1))).astype(np.float32)
        clouds += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / 2 ** (octave + 1)
    return np.clip(clouds, -1, 1)


def draw_layer(size: tuple[int, int], layer: Layer, slant: float, random: np.random.Generator) -> Field:
    """Draw the streaks of one layer, (H, W) float32 in [0, 1]; what is thinner than a pixel is fainter instead.

    Args:
        size: (H, W), pixels.
        layer: what to draw.
        slant: off the vertical, radians.
        random: places and brightness.
    """
    height, width = size
    number = round(layer.number * width / height)
    margin = layer.length * height
    starts = random.uniform((-margin, -margin), (width + margin, height), (number, 2))
    ends = starts + margin * np.array([np.sin(slant), np.cos(slant)]) * random.uniform(0.6, 1.2, (number, 1))
    thickness = layer.width * height
    sides = max(thickness - 2 * _EDGE, 0.3)  # between the soft edges that OpenCV adds
    brightness = 255 * random.uniform(0.4, 1, number) * min(1.0, thickness / (sides + 2 * _EDGE))
    across = sides / 2 * np.array([np.cos(slant), -np.sin(slant)])
    corners = np.stack([starts - across, starts + across, ends + across, ends - across], axis=1)
    cover = np.zeros(size, np.uint8)
    for outline, value in zip(np.rint(16 * corners).astype(np.int32), brightness, strict=True):
        cv2.fillConvexPoly(cover, outline, float(value), cv2.LINE_AA, 4)  # places in sixteenths of a pixel
    blurred = cv2.GaussianBlur(cover, (0, 0), max(0.3, 0.3 * thickness))
    return np.asarray(blurred, dtype=np.float32) / np.float32(255)


def to_bytes(image: NDArray[np.floating[Any]]) -> Image:
    """Round (H, W, 3) float in [0, 1], cut off beyond, to uint8."""
    return np.asarray(np.rint(np.clip(image, 0, 1) * 255), dtype=np.uint8)
