"""Augmentation and resizing: a random window on the picture, flip, colour jitter (albumentations 2.0.8)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import otherwise waits for the network

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from gss.labels import IGNORE

_MEAN_COLOUR = (124, 116, 104)  # mean of natural photographs: padding that no normalisation makes loud
_NEAREST = cv2.INTER_NEAREST_EXACT  # by pixel centres; INTER_NEAREST shifts labels by up to half a pixel


@dataclass(frozen=True)
class Augmentation:
    """What may change between two looks at one photograph.

    Args:
        scale: smallest and largest magnification; at 1 the network sees the whole picture at its input size,
            at 2 a quarter of its area, at 0.5 the whole picture padded to twice its sides.
        flip: probability of a mirror image, left to right.
        brightness: largest relative change of brightness, [0, 1).
        contrast: largest relative change of contrast, [0, 1).
        saturation: largest relative change of saturation, [0, 1).
        hue: largest shift of hue, in turns of the colour circle, [0, 0.5].

    Raises:
        ValueError: a value leaves its range.
    """

    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    brightness: float = 0.25
    contrast: float = 0.25
    saturation: float = 0.25
    hue: float = 0.02

    def __post_init__(self) -> None:
        """Check the ranges; a YAML list becomes a tuple."""
        object.__setattr__(self, "scale", tuple(self.scale))
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale needs 0 < low <= high, got {self.scale}; mend data.augmentation.scale")
        limits = {"flip": 1.0, "brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.5}
        for name, most in limits.items():
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(
                    f"{name} lies in 0 to {most:g}, got {getattr(self, name)}; mend data.augmentation.{name}"
                )


class Span(NamedTuple):
    """Along one axis: `length` source pixels from `start` fill `placed` output pixels from `place`."""

    start: int
    length: int
    place: int
    placed: int


class RandomWindow(A.DualTransform):  # type: ignore[misc]  # albumentations ships no types
    """Magnify by a random scale and crop to a fixed size, in one step.

    Equivalent to resizing the whole picture to `scale * size`, padding what is too small and cropping a
    random window, but the window is cut in source pixels first and only it is resized: the cost does not grow
    with the scale. Photographs shrink by area and grow bilinearly; labels only ever take nearest values.
    Padding is the mean colour for photographs and 255 for labels. With scale (1, 1) it is the plain resize of
    evaluation.

    Args:
        size: (H, W) of the result, pixels.
        scale: smallest and largest magnification, relative to the whole picture at `size`.
    """

    def __init__(self, size: tuple[int, int], scale: tuple[float, float]) -> None:
        """Store the size and the range; randomness comes from the pipeline."""
        super().__init__(p=1.0)
        self.size = size
        self.scale = scale

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw one scale for both axes, then a position along each."""
        scale = float(np.exp(self.py_random.uniform(*np.log(self.scale))))  # as often halved as doubled
        height, width = params["shape"][:2]
        return {
            "rows": draw_span(height, self.size[0], scale, self.py_random.random()),
            "columns": draw_span(width, self.size[1], scale, self.py_random.random()),
        }

    def apply(self, img: NDArray[Any], rows: Span, columns: Span, **params: Any) -> NDArray[Any]:
        """Cut and resize the photograph, from the file's (H', W', 3) uint8 to (H, W, 3) uint8."""
        shrinks = rows.placed * columns.placed < rows.length * columns.length
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return self._window(img, rows, columns, interpolation, _MEAN_COLOUR)

    def apply_to_mask(self, mask: NDArray[Any], rows: Span, columns: Span, **params: Any) -> NDArray[Any]:
        """Cut and resize the labels by nearest neighbour, from the file's (H', W') uint8 to (H, W) uint8."""
        return self._window(mask, rows, columns, _NEAREST, IGNORE)

    def _window(
        self, source: NDArray[Any], rows: Span, columns: Span, interpolation: int, fill: int | Sequence[int]
    ) -> NDArray[Any]:
        """Resize the cut of (H', W') or (H', W', 3) uint8 to its place in (H, W) or (H, W, 3) uint8.

        Padding is allocated only where the cut does not fill the result.
        """
        cut = source[rows.start : rows.start + rows.length, columns.start : columns.start + columns.length]
        resized: NDArray[Any] = cv2.resize(cut, (columns.placed, rows.placed), interpolation=interpolation)
        if resized.shape[:2] == self.size:
            return resized
        result = np.empty((*self.size, *source.shape[2:]), dtype=source.dtype)
        result[...] = fill
        bottom, right = rows.place + rows.placed, columns.place + columns.placed
        result[rows.place : bottom, columns.place : right] = resized
        return result


def draw_span(source: int, size: int, scale: float, position: float) -> Span:
    """Place a window of `source / scale` pixels on an axis of `source` pixels, for `size` output pixels.

    Args:
        source: length of the axis in the file, pixels.
        size: length of the axis in the result, pixels.
        scale: magnification relative to the whole axis at `size`.
        position: where the window (or, if it is larger than the axis, the picture in it) lies, [0, 1).
    """
    window = max(1, round(source / scale))
    if window <= source:
        return Span(start=int(position * (source - window + 1)), length=window, place=0, placed=size)
    placed = max(1, round(size * source / window))
    return Span(start=0, length=source, place=int(position * (size - placed + 1)), placed=placed)


def resize_labels(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring a label map (H', W') uint8 to (H, W) = `size` as evaluation does, by nearest: (H, W) uint8."""
    return np.asarray(cv2.resize(labels, size[::-1], interpolation=_NEAREST), dtype=np.uint8)


def training_transform(size: tuple[int, int], augmentation: Augmentation) -> A.Compose:
    """Build the training pipeline: random window, flip, colour jitter.

    Args:
        size: (H, W) of the result, pixels.
        augmentation: what may change.
    """
    jitter = A.ColorJitter(
        brightness=(1 - augmentation.brightness, 1 + augmentation.brightness),
        contrast=(1 - augmentation.contrast, 1 + augmentation.contrast),
        saturation=(1 - augmentation.saturation, 1 + augmentation.saturation),
        hue=(-augmentation.hue, augmentation.hue),
        p=1.0,
    )
    return A.Compose([RandomWindow(size, augmentation.scale), A.HorizontalFlip(p=augmentation.flip), jitter])


def evaluation_transform(size: tuple[int, int]) -> A.Compose:
    """Build the evaluation pipeline: the whole picture at (H, W) = `size`, nothing random."""
    return A.Compose([RandomWindow(size, (1.0, 1.0))])


def native_transform() -> A.Compose:
    """Build the pipeline of evaluation at native size, which changes nothing: (H', W') stays as in the file."""
    return A.Compose([])
