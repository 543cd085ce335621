"""What happens to an image on its way to the network: crop, flip, colours, padding (albumentations 2.0.8).

Random crops are cut in the file's pixels first, and only the cut is resized.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from gss.data.distortion import PhotometricDistortion
from gss.labels import IGNORE
from gss.registry import one_of

GEOMETRIES = ("fit", "native")
COLOURS = ("jitter", "distortion")
MEAN_COLOUR = (124, 116, 104)  # mean of natural images: padding that no normalisation makes loud
NEAREST = cv2.INTER_NEAREST_EXACT  # by pixel centres; INTER_NEAREST shifts labels by up to half a pixel


@dataclass(frozen=True)
class Augmentation:
    """What may change between two looks at one image.

    Args:
        scale: smallest and largest magnification, relative to what `geometry` says.
        flip: probability of a mirror image, left to right.
        brightness: largest change of brightness, [0, 1): relative, or with colour=distortion a share of white.
        contrast: largest relative change of contrast, [0, 1).
        saturation: largest relative change of saturation, [0, 1).
        hue: largest shift of hue, in turns of the colour circle, [0, 0.5].
        geometry: fit: at magnification 1 the network sees the whole picture at its input size, at 2 a quarter of its
            area, at 0.5 the whole picture padded to twice its sides, as often halved as doubled; native, as published:
            at 1 the image has its own pixels (or those of `base`) and the network sees a crop, all ratios alike.
        base: of geometry=native: short and long side, pixels, that an image is brought to at magnification 1, its
            proportions kept, as large as both allow; None: its own size.
        max_share: of geometry=native: crops in which one class has this share of the labelled pixels, or which show
            less than two classes, are sampled again, up to ten times (mmsegmentation's cat_max_ratio); 1: none are.
        colour: jitter: all four always change, in random order; distortion, as published: each with probability 1/2,
            before padding.

    Raises:
        ValueError: a value leaves its range, or does not go with the geometry.
    """

    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    brightness: float = 0.25
    contrast: float = 0.25
    saturation: float = 0.25
    hue: float = 0.02
    geometry: str = "fit"
    base: tuple[int, int] | None = None
    max_share: float = 1.0
    colour: str = "jitter"

    def __post_init__(self) -> None:
        """Check the ranges; YAML lists become tuples."""
        object.__setattr__(self, "scale", tuple(self.scale))
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale needs 0 < low <= high, got {self.scale}; mend data.augmentation.scale")
        limits = {"flip": 1.0, "brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.5}
        for name, most in limits.items():
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(
                    f"{name} lies in 0 to {most:g}, got {getattr(self, name)}; mend data.augmentation.{name}"
                )
        for name, known in (("geometry", GEOMETRIES), ("colour", COLOURS)):
            one_of(known, f"data.augmentation.{name}", getattr(self, name))
        if self.base is not None:
            object.__setattr__(self, "base", tuple(self.base))
            if len(self.base) != 2 or not 0 < self.base[0] <= self.base[1]:
                raise ValueError(f"base needs 0 < short <= long, got {self.base}; mend data.augmentation.base")
        if not 0 < self.max_share <= 1:
            raise ValueError(
                f"max_share lies above 0 and up to 1, got {self.max_share}; mend data.augmentation.max_share"
            )
        if self.geometry == "fit" and (self.base is not None or self.max_share < 1):
            raise ValueError(
                f"data.augmentation.base={self.base} and max_share={self.max_share} belong to geometry=native; with "
                "data.augmentation.geometry=fit leave base null and max_share 1"
            )


def resize_labels(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring a label map (H', W') uint8 to (H, W) = `size` as evaluation does, by nearest: (H, W) uint8."""
    return np.asarray(cv2.resize(labels, size[::-1], interpolation=NEAREST), dtype=np.uint8)


def training_transform(size: tuple[int, int], augmentation: Augmentation) -> A.Compose:
    """Build the training pipeline: random crop, flip, colours; of the published geometry, padding last.

    With geometry=fit the steps' random numbers are not independent (see `OneStream`): images are mirrored where they
    are made smaller. It stays so for the sake of what was measured with it.

    Padding is the mean colour, which becomes about 0 when the network normalises, as padding is published; labels are
    padded with 255.

    Args:
        size: (H, W) of the result, pixels.
        augmentation: what may change.
    """
    flip, colours = A.HorizontalFlip(p=augmentation.flip), _colours(augmentation)
    if augmentation.geometry == "fit":
        return A.Compose([RandomScaleCrop(size, augmentation.scale), flip, colours])
    crop = NativeCrop(size, augmentation.scale, augmentation.base, augmentation.max_share)
    padding = A.PadIfNeeded(*size, position="top_left", fill=MEAN_COLOUR, fill_mask=IGNORE)  # right of it and below
    return OneStream([crop, flip, colours, padding])


class OneStream(A.Compose):  # type: ignore[misc]  # albumentations ships no types
    """A pipeline whose steps take their random numbers one after the other from one stream.

    albumentations 2.0.8 starts every step from the pipeline's seed, so that all first numbers are the same and, say,
    the flip follows from the magnification.
    """

    def set_random_seed(self, seed: int | None) -> None:
        """Start the stream anew."""
        super().set_random_seed(seed)
        for step in self.transforms:
            step.set_random_state(self.random_generator, self.py_random)


def _colours(augmentation: Augmentation) -> A.ImageOnlyTransform:
    """Build what changes colours."""
    if augmentation.colour == "distortion":
        return PhotometricDistortion(
            augmentation.brightness, augmentation.contrast, augmentation.saturation, augmentation.hue
        )
    return A.ColorJitter(
        brightness=(1 - augmentation.brightness, 1 + augmentation.brightness),
        contrast=(1 - augmentation.contrast, 1 + augmentation.contrast),
        saturation=(1 - augmentation.saturation, 1 + augmentation.saturation),
        hue=(-augmentation.hue, augmentation.hue),
        p=1.0,
    )


def evaluation_transform(size: tuple[int, int] | None) -> A.Compose:
    """Build the evaluation pipeline: the whole picture at (H, W) = `size`, nothing random; None: as in the file."""
    return A.Compose([RandomScaleCrop(size, (1.0, 1.0))] if size else [])


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
