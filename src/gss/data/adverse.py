"""Adverse: a split seen again under drawn weather and camera faults, where no images of such are at hand.

The idea of kinds at graded strengths is that of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to
Common Corruptions and Perturbations" (ICLR 2019): a network that never saw them is scored on each. A kind is an
albumentations pipeline at three strengths: mild, plain, severe.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import albumentations as A
import numpy as np
from numpy.typing import NDArray

from gss.data.pairs import Pair
from gss.data.weather import Falling, Fog, Lamplight, Layer, SunGlare

Steps = list[A.BasicTransform]
Size = tuple[int, int]

CLEAN = "clean"  # the condition of an image as it is
STRENGTHS = (1, 2, 3)
_REFERENCE = 360  # rows of a CamVid frame, at which the strengths were chosen; pixels count relative to it


def fog(strength: int, size: Size) -> Steps:
    """Fog: at the horizon 50, 25 and 11 % of the image are left, in front of the car about 90, 80 and 70 %."""
    return [Fog((0.7, 1.4, 2.2)[strength - 1])]


def night(strength: int, size: Size) -> Steps:
    """Night: 30, 12 and 5 % of the daylight, headlights, paler colours, and the noise of a camera that sees little."""
    daylight, headlights, noise = ((0.3, 1.0, 0.02), (0.12, 0.8, 0.04), (0.05, 0.6, 0.06))[strength - 1]
    return [Lamplight(daylight, headlights), _saturation(-15 * strength), _grain(noise, size)]


def rain(strength: int, size: Size) -> Steps:
    """Rain: a darker, paler scene, a veil in the distance, and streaks in three layers, each strength twice as many."""
    number = 2.0**strength
    layers = (Layer(120 * number, 0.04, 0.0012), Layer(40 * number, 0.08, 0.002), Layer(10 * number, 0.16, 0.0035))
    dark = A.RandomGamma((100 + 15 * strength,) * 2, p=1.0)
    veil = Fog(0.3 * strength, air=(0.5, 0.6))
    return [dark, _saturation(-12 * strength), veil, Falling(layers, 0.3 + 0.1 * strength, (205, 210, 215), 15.0)]


def snow(strength: int, size: Size) -> Steps:
    """Snow: a pale scene behind a bright veil, and flakes in three layers, each strength twice as many."""
    number = 2.0**strength
    layers = (Layer(100 * number, 0.004, 0.004), Layer(25 * number, 0.012, 0.009), Layer(4 * number, 0.03, 0.02))
    veil = Fog((0.4, 0.8, 1.3)[strength - 1], air=(0.85, 0.95))
    return [_saturation(-20 * strength), veil, Falling(layers, 0.7 + 0.1 * strength, (250, 250, 255), 40.0)]


def sun_glare(strength: int, size: Size) -> Steps:
    """Sun glare: a low sun in the picture, its halo wider and the veil over all of it thicker with the strength."""
    brightness, halo, veil = ((0.6, 0.12, 0.05), (0.8, 0.25, 0.15), (0.95, 0.45, 0.25))[strength - 1]
    return [SunGlare(brightness, halo, veil)]


def blur(strength: int, size: Size) -> Steps:
    """Blur: by chance out of focus (a disc) or shaken (a line), at 360 rows 5, 9, 13 and 9, 17, 25 pixels wide."""
    disc = max(1, _pixels((2, 4, 6)[strength - 1], size))
    line = 2 * max(1, _pixels((4, 8, 12)[strength - 1], size)) + 1
    defocus = A.Defocus(radius=(disc, disc), alias_blur=(0.3, 0.3), p=1.0)
    return [A.OneOf([defocus, A.MotionBlur(blur_limit=(line, line), allow_shifted=False, p=1.0)], p=1.0)]


def noise(strength: int, size: Size) -> Steps:
    """Noise: Gaussian, of each channel, standard deviation 0.08, 0.15 and 0.25 of the range."""
    return [_grain((0.08, 0.15, 0.25)[strength - 1], size)]


def jpeg(strength: int, size: Size) -> Steps:
    """JPEG at quality 25, 12 and 6, in blocks of 8 pixels whatever the size, as cameras write them."""
    quality = (25, 12, 6)[strength - 1]
    return [A.ImageCompression(compression_type="jpeg", quality_range=(quality, quality), p=1.0)]


KINDS: Mapping[str, Callable[[int, Size], Steps]] = {
    kind.__name__: kind for kind in (fog, night, rain, snow, sun_glare, blur, noise, jpeg)
}
"""Every kind by name: gives the steps for a strength of 1 to 3 and a picture of (H, W) pixels."""


@dataclass(frozen=True)
class Adverse:
    """Serves each image once as it is (condition `clean`) and once per kind and strength (`fog-1`).

    What is drawn on an image depends on its name, kind, strength and `seed` only, so that every network, worker
    and process is shown the same picture in whatever order. Labels stay as they are.

    Args:
        kinds: of degradation, from `gss.data.adverse.KINDS`.
        strengths: from 1, mild, to 3, severe.
        seed: of what is drawn.

    Raises:
        ValueError: a kind or strength is unknown, named twice, or none is given.
    """

    kinds: Sequence[str] = tuple(KINDS)
    strengths: Sequence[int] = STRENGTHS
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the words; YAML lists become tuples."""
        object.__setattr__(self, "kinds", _each_once("kinds", self.kinds))
        object.__setattr__(self, "strengths", _each_once("strengths", self.strengths))
        for kind in self.kinds:
            if kind not in KINDS:
                near = difflib.get_close_matches(str(kind), KINDS, cutoff=0.5)
                hint = f"nearest: {', '.join(near)}" if near else f"there are: {', '.join(KINDS)}"
                raise ValueError(f"unknown kind '{kind}' in data.adverse.kinds; {hint}")
        for strength in self.strengths:
            if type(strength) is not int or strength not in STRENGTHS:  # `type`: True is no strength
                raise ValueError(f"strength {strength!r} in data.adverse.strengths is none of 1 (mild), 2, 3 (severe)")
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(f"seed must be a whole number of at least 0, got {self.seed!r}; mend data.adverse.seed")

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of all conditions, `clean` first, in the order in which they are served."""
        return (CLEAN, *(f"{kind}-{strength}" for kind in self.kinds for strength in self.strengths))

    def pairs(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Repeat a split under every condition, condition by condition.

        Raises:
            ValueError: the images have conditions already.
        """
        if named := next((pair for pair in pairs if pair.condition), None):
            raise ValueError(
                f"'{named.image}' is an image of the condition '{named.condition}' already: data.adverse degrades "
                "images without conditions; set data.adverse=null"
            )
        return [pair._replace(condition=condition) for condition in self.conditions for pair in pairs]

    def degrade(self, image: NDArray[np.uint8], pair: Pair) -> NDArray[np.uint8]:
        """Bring an image into the condition of its pair.

        Args:
            image: (H, W, 3) uint8 RGB at its own size; stays unchanged.
            pair: its name and condition.

        Returns:
            (H, W, 3) uint8 RGB.
        """
        if pair.condition == CLEAN:
            return image
        kind, _, strength = pair.condition.rpartition("-")
        pipeline = degradation(kind, int(strength), (image.shape[0], image.shape[1]))
        pipeline.set_random_seed(degradation_seed(self.seed, pair.name, pair.condition))
        return np.asarray(pipeline(image=image)["image"], dtype=np.uint8)


@lru_cache(maxsize=256)
def degradation(kind: str, strength: int, size: Size) -> A.Compose:
    """Build the pipeline of one kind and strength for pictures of (H, W) = `size`; seed it before each use."""
    return A.Compose(KINDS[kind](strength, size))


def degradation_seed(seed: int, name: str, condition: str) -> int:
    """Mix the seed with an image's name and condition into 32 bits, alike on every machine and in every process."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{condition}/{name}".encode()).digest()[:4], "big")


def _pixels(length: float, size: Size) -> int:
    """A length of so many pixels in a picture of 360 rows, as pixels of a picture of (H, W) = `size`."""
    return round(length * min(size) / _REFERENCE)


def _saturation(shift: int) -> A.BasicTransform:
    """Shift the saturation, on the scale of 0 to 255."""
    return A.HueSaturationValue((0, 0), (shift, shift), (0, 0), p=1.0)


def _grain(deviation: float, size: Size) -> A.BasicTransform:
    """Gaussian noise whose grains are a pixel at 360 rows, and as large relative to the picture in larger ones."""
    return A.GaussNoise((deviation, deviation), noise_scale_factor=min(1.0, _REFERENCE / min(size)), p=1.0)


def _each_once(key: str, values: Sequence[Any]) -> tuple[Any, ...]:
    """Refuse an empty list and repetitions."""
    twice = next((value for value in values if list(values).count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"data.adverse.{key} names {twice!r} more than once; leave one of them out")
    if not values:
        raise ValueError(f"data.adverse.{key} is empty; name at least one, or set data.adverse=null")
    return tuple(values)
