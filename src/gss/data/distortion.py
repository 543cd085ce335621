"""PhotometricDistortion: brightness, contrast, saturation and hue as the published recipes change them."""

from __future__ import annotations

from typing import Any

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

_HUES = 180  # OpenCV counts the colour circle in steps of 2 degrees, so that a hue fits a byte
_LEVELS = np.arange(256, dtype=np.float32)


class PhotometricDistortion(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations ships no types
    """Change brightness, contrast, saturation and hue, each with probability 1/2 (SSD's, as mmsegmentation has it).

    Brightness comes first, contrast with probability 1/2 right after it and else last:

        brightness  x + b,                b uniform in [-255 brightness, 255 brightness]
        contrast    c x,                  c uniform in [1 - contrast, 1 + contrast]
        saturation  s S in HSV,           s uniform in [1 - saturation, 1 + saturation]
        hue         (H + h) mod 180,      h a whole number in [-180 hue, 180 hue - 1]

    each cut off at 0 and 255 and rounded down to a whole number. The published values are brightness 32/255, contrast
    and saturation 0.5, hue 0.1. Since every step maps a byte to a byte, steps that follow each other are one look-up;
    saturation and hue go to HSV and back once, which is the same up to the rounding in between.

    Args:
        brightness: largest shift, a share of white, [0, 1).
        contrast: largest relative change, [0, 1).
        saturation: largest relative change, [0, 1).
        hue: largest shift in turns of the colour circle, [0, 0.5].
    """

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float) -> None:
        """Store the largest changes; randomness comes from the pipeline."""
        super().__init__(p=1.0)
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue

    def get_params(self) -> dict[str, Any]:
        """Sample what is changed and by how much; None is no change."""
        hues = round(_HUES * self.hue)
        return {
            "shift": self._maybe(-255 * self.brightness, 255 * self.brightness),
            "contrast": self._maybe(1 - self.contrast, 1 + self.contrast),
            "saturation": self._maybe(1 - self.saturation, 1 + self.saturation),
            "turn": self.py_random.randrange(-hues, hues) if hues and self._coin() else None,
            "contrast_first": self._coin(),
        }

    def _coin(self) -> bool:
        return bool(self.py_random.random() < 0.5)

    def _maybe(self, low: float, high: float) -> float | None:
        """Sample a change with probability 1/2; where nothing can change, none."""
        return float(self.py_random.uniform(low, high)) if low < high and self._coin() else None

    def apply(
        self,
        img: NDArray[Any],
        shift: float | None,
        contrast: float | None,
        saturation: float | None,
        turn: int | None,
        contrast_first: bool,
        **params: Any,
    ) -> NDArray[Any]:
        """Change the colours of (H, W, 3) uint8 RGB."""
        before = scaled_levels(1.0, shift or 0.0)
        after = scaled_levels(1.0 if contrast is None else contrast, 0.0)
        if contrast_first or (saturation is None and turn is None):
            before, after = after[before], scaled_levels(1.0, 0.0)
        changed = looked_up(img, before)
        if saturation is not None or turn is not None:
            changed = turned(changed, 1.0 if saturation is None else saturation, turn or 0)
        return looked_up(changed, after)


def scaled_levels(factor: float, shift: float) -> NDArray[np.uint8]:
    """Give `factor * x + shift` of every byte x, cut off and rounded down: (256,) uint8."""
    levels: NDArray[np.float32] = np.clip(_LEVELS * np.float32(factor) + np.float32(shift), 0, 255)
    return levels.astype(np.uint8)


def looked_up(image: NDArray[Any], table: NDArray[np.uint8]) -> NDArray[Any]:
    """Look every byte of (H, W, 3) uint8 up in a (256,) uint8 table."""
    if np.array_equal(table, _LEVELS):
        return image
    changed: NDArray[Any] = cv2.LUT(image, table)
    return changed


def turned(image: NDArray[Any], saturation: float, turn: int) -> NDArray[Any]:
    """Multiply the saturation of (H, W, 3) uint8 RGB and turn its hue by `turn` steps of 2 degrees."""
    hues = ((np.arange(256) + turn) % _HUES).astype(np.uint8)
    tables = np.stack([hues, scaled_levels(saturation, 0.0), scaled_levels(1.0, 0.0)], axis=-1)[None]
    in_hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), tables)
    changed: NDArray[Any] = cv2.cvtColor(in_hsv, cv2.COLOR_HSV2RGB)
    return changed
