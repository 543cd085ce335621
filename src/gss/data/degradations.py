"""Kinds of degradation, each an albumentations pipeline at three strengths: mild, plain, severe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import albumentations as A

from gss.data.weather import Falling, Fog, Lamplight, Layer, SunGlare

Steps = list[A.BasicTransform]
Size = tuple[int, int]

STRENGTHS = (1, 2, 3)
_REFERENCE = 360  # rows of a CamVid frame, at which the strengths were chosen; pixels count relative to it


def fog(strength: int, size: Size) -> Steps:
    """Fog: at the horizon 50, 25 and 11 % of the photograph are left, in front of the car about 90, 80 and 70 %."""
    return [Fog((0.7, 1.4, 2.2)[strength - 1])]


def night(strength: int, size: Size) -> Steps:
    """Night: 30, 12 and 5 % of the daylight, headlights, paler colours, and the noise of a camera that sees little."""
    daylight, headlights, noise = ((0.3, 1.0, 0.02), (0.12, 0.8, 0.04), (0.05, 0.6, 0.06))[strength - 1]
    return [Lamplight(daylight, headlights), saturation(-15 * strength), grain(noise, size)]


def rain(strength: int, size: Size) -> Steps:
    """Rain: a darker, paler scene, a veil in the distance, and streaks in three layers, each strength twice as many."""
    number = 2.0**strength
    layers = (Layer(120 * number, 0.04, 0.0012), Layer(40 * number, 0.08, 0.002), Layer(10 * number, 0.16, 0.0035))
    dark = A.RandomGamma((100 + 15 * strength,) * 2, p=1.0)
    veil = Fog(0.3 * strength, air=(0.5, 0.6))
    return [dark, saturation(-12 * strength), veil, Falling(layers, 0.3 + 0.1 * strength, (205, 210, 215), 15.0)]


def snow(strength: int, size: Size) -> Steps:
    """Snow: a pale scene behind a bright veil, and flakes in three layers, each strength twice as many."""
    number = 2.0**strength
    layers = (Layer(100 * number, 0.004, 0.004), Layer(25 * number, 0.012, 0.009), Layer(4 * number, 0.03, 0.02))
    veil = Fog((0.4, 0.8, 1.3)[strength - 1], air=(0.85, 0.95))
    return [saturation(-20 * strength), veil, Falling(layers, 0.7 + 0.1 * strength, (250, 250, 255), 40.0)]


def sun_glare(strength: int, size: Size) -> Steps:
    """Sun glare: a low sun in the picture, its halo wider and the veil over all of it thicker with the strength."""
    brightness, halo, veil = ((0.6, 0.12, 0.05), (0.8, 0.25, 0.15), (0.95, 0.45, 0.25))[strength - 1]
    return [SunGlare(brightness, halo, veil)]


def blur(strength: int, size: Size) -> Steps:
    """Blur: by chance out of focus (a disc) or shaken (a line), at 360 rows 5, 9, 13 and 9, 17, 25 pixels wide."""
    disc = max(1, pixels((2, 4, 6)[strength - 1], size))
    line = 2 * max(1, pixels((4, 8, 12)[strength - 1], size)) + 1
    defocus = A.Defocus(radius=(disc, disc), alias_blur=(0.3, 0.3), p=1.0)
    return [A.OneOf([defocus, A.MotionBlur(blur_limit=(line, line), allow_shifted=False, p=1.0)], p=1.0)]


def noise(strength: int, size: Size) -> Steps:
    """Noise: Gaussian, of each channel, standard deviation 0.08, 0.15 and 0.25 of the range."""
    return [grain((0.08, 0.15, 0.25)[strength - 1], size)]


def jpeg(strength: int, size: Size) -> Steps:
    """JPEG at quality 25, 12 and 6, in blocks of 8 pixels whatever the size, as cameras write them."""
    quality = (25, 12, 6)[strength - 1]
    return [A.ImageCompression(compression_type="jpeg", quality_range=(quality, quality), p=1.0)]


KINDS: Mapping[str, Callable[[int, Size], Steps]] = {
    kind.__name__: kind for kind in (fog, night, rain, snow, sun_glare, blur, noise, jpeg)
}
"""Every kind by name: gives the steps for a strength of 1 to 3 and a picture of (H, W) pixels."""


@lru_cache(maxsize=256)
def degradation(kind: str, strength: int, size: Size) -> A.Compose:
    """Build the pipeline of one kind and strength for pictures of (H, W) = `size`; seed it before each use."""
    return A.Compose(KINDS[kind](strength, size))


def pixels(length: float, size: Size) -> int:
    """A length of so many pixels in a picture of 360 rows, as pixels of a picture of (H, W) = `size`."""
    return round(length * min(size) / _REFERENCE)


def saturation(shift: int) -> A.BasicTransform:
    """Shift the saturation, on the scale of 0 to 255."""
    return A.HueSaturationValue((0, 0), (shift, shift), (0, 0), p=1.0)


def grain(deviation: float, size: Size) -> A.BasicTransform:
    """Gaussian noise whose grains are a pixel at 360 rows, and as large relative to the picture in larger ones."""
    return A.GaussNoise((deviation, deviation), noise_scale_factor=min(1.0, _REFERENCE / min(size)), p=1.0)
