"""Random crops of an image: cut in the file's pixels first, then only the cut is resized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from gss.labels import IGNORE

MEAN_COLOUR = (124, 116, 104)  # mean of natural images: padding that no normalisation makes loud
NEAREST = cv2.INTER_NEAREST_EXACT  # by pixel centres; INTER_NEAREST shifts labels by up to half a pixel


class Span(NamedTuple):
    """Along one axis: `length` source pixels from `start` fill `placed` output pixels from `place`."""

    start: int
    length: int
    place: int
    placed: int


class RandomScaleCrop(A.DualTransform):  # type: ignore[misc]  # albumentations ships no types
    """Magnify by a random scale and crop to a fixed size, in one step.

    Equivalent to resizing the whole picture to `scale * size`, padding what is too small and taking a random crop,
    but the crop is cut in source pixels first and only it is resized: the cost does not grow with the scale. Images
    shrink by area and grow bilinearly; labels only ever take nearest values. Padding is the mean colour for images and
    255 for labels. With scale (1, 1) it is the plain resize of evaluation.

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
        """Sample one scale for both axes, then a position along each."""
        scale = float(np.exp(self.py_random.uniform(*np.log(self.scale))))  # as often halved as doubled
        height, width = params["shape"][:2]
        return {
            "rows": crop_span(height, self.size[0], scale, self.py_random.random()),
            "columns": crop_span(width, self.size[1], scale, self.py_random.random()),
        }

    def apply(self, img: NDArray[Any], rows: Span, columns: Span, **params: Any) -> NDArray[Any]:
        """Cut and resize the image, from the file's (H', W', 3) uint8 to (H, W, 3) uint8."""
        shrinks = rows.placed * columns.placed < rows.length * columns.length
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return self._placed(img, rows, columns, interpolation, MEAN_COLOUR)

    def apply_to_mask(self, mask: NDArray[Any], rows: Span, columns: Span, **params: Any) -> NDArray[Any]:
        """Cut and resize the labels by nearest neighbour, from the file's (H', W') uint8 to (H, W) uint8."""
        return self._placed(mask, rows, columns, NEAREST, IGNORE)

    def _placed(
        self, source: NDArray[Any], rows: Span, columns: Span, interpolation: int, fill: int | Sequence[int]
    ) -> NDArray[Any]:
        """Resize the cut of (H', W') or (H', W', 3) uint8 to its place in (H, W) or (H, W, 3) uint8.

        Padding is allocated only where the cut does not fill the result.
        """
        resized = resized_cut(source, rows, columns, interpolation)
        if resized.shape[:2] == self.size:
            return resized
        result = np.empty((*self.size, *source.shape[2:]), dtype=source.dtype)
        result[...] = fill
        bottom, right = rows.place + rows.placed, columns.place + columns.placed
        result[rows.place : bottom, columns.place : right] = resized
        return result


class NativeCrop(A.DualTransform):  # type: ignore[misc]  # albumentations ships no types
    """Magnify an image relative to its own pixels and crop, as published recipes do, in one step.

    Published (mmsegmentation's `Resize` with `ratio_range`, then `RandomCrop` with `cat_max_ratio`): the whole
    image is resized by `ratio * base_magnification`, the ratio uniform in `scale`, and cropped to `size` at random, up
    to ten times again while one class has `max_share` or more of the crop's labelled pixels or fewer than two classes
    occur; the eleventh crop is taken as it is. Here the crop is cut in the file's pixels and only it is resized: it
    begins at a whole pixel of the file and its length is rounded to one, nothing else differs. Images are resized
    bilinearly, as published; labels take the nearest value.

    An image that is smaller than the crop is not padded here but left smaller: colours come before padding.

    Args:
        size: (H, W) of the crop, pixels.
        scale: smallest and largest ratio.
        base: short and long side that an image is brought to at ratio 1, its proportions kept: it is as large as
            both allow; None: its own size.
        max_share: of the crop's labelled pixels that one class stays below; 1: every crop is taken.
    """

    TRIES = 10

    def __init__(
        self, size: tuple[int, int], scale: tuple[float, float], base: tuple[int, int] | None, max_share: float
    ) -> None:
        """Store the settings; randomness comes from the pipeline."""
        super().__init__(p=1.0)
        self.size = size
        self.scale = scale
        self.base = base
        self.max_share = max_share

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Sample one ratio for both axes, then crops until one shows enough of more than one class."""
        height, width = params["shape"][:2]
        magnification = self.py_random.uniform(*self.scale) * base_magnification(height, width, self.base)
        tall, wide = self.size

        def sampled() -> dict[str, Span]:
            """Sample the place of one crop."""
            return {
                "rows": crop_span(height, tall, height * magnification / tall, self.py_random.random()),
                "columns": crop_span(width, wide, width * magnification / wide, self.py_random.random()),
            }

        for _ in range(self.TRIES if self.max_share < 1 else 0):
            crop = sampled()
            if is_varied(self.apply_to_mask(data["mask"], **crop), self.max_share):
                return crop
        return sampled()

    def apply(self, img: NDArray[Any], rows: Span, columns: Span, **params: Any) -> NDArray[Any]:
        """Cut and resize the image, from the file's (H', W', 3) uint8 to (H, W, 3) uint8 or less."""
        return resized_cut(img, rows, columns, cv2.INTER_LINEAR)

    def apply_to_mask(self, mask: NDArray[Any], rows: Span, columns: Span, **params: Any) -> NDArray[Any]:
        """Cut and resize the labels by nearest neighbour, from the file's (H', W') uint8 to (H, W) uint8 or less."""
        return resized_cut(mask, rows, columns, NEAREST)


def resized_cut(source: NDArray[Any], rows: Span, columns: Span, interpolation: int) -> NDArray[Any]:
    """Resize a cut of (H', W') or (H', W', 3) uint8 to the pixels it fills; nothing but the cut is read."""
    cut = source[rows.start : rows.start + rows.length, columns.start : columns.start + columns.length]
    resized: NDArray[Any] = cv2.resize(cut, (columns.placed, rows.placed), interpolation=interpolation)
    return resized


def base_magnification(height: int, width: int, base: tuple[int, int] | None) -> float:
    """Give the magnification at ratio 1: the largest by which neither side exceeds `base` (short, long); 1 without."""
    if base is None:
        return 1.0
    return min(base[0] / min(height, width), base[1] / max(height, width))


def is_varied(labels: NDArray[np.uint8], max_share: float) -> bool:
    """Tell whether two classes or more occur, none with `max_share` or more of the labelled pixels.

    Args:
        labels: (H, W) uint8 in [0, K) or 255.
        max_share: (0, 1].
    """
    counts = cv2.calcHist([labels], [0], None, [IGNORE], [0, IGNORE])  # 255 lies outside the range
    return bool(np.count_nonzero(counts) > 1 and counts.max() < max_share * counts.sum())


def crop_span(source: int, size: int, scale: float, position: float) -> Span:
    """Place a crop of `source / scale` pixels on an axis of `source` pixels, for `size` output pixels.

    Args:
        source: length of the axis in the file, pixels.
        size: length of the axis in the result, pixels.
        scale: magnification relative to the whole axis at `size`.
        position: where the crop (or, if it is larger than the axis, the picture in it) lies, [0, 1).
    """
    length = max(1, round(source / scale))
    if length <= source:
        return Span(start=int(position * (source - length + 1)), length=length, place=0, placed=size)
    placed = max(1, round(size * source / length))
    return Span(start=0, length=source, place=int(position * (size - placed + 1)), placed=placed)
