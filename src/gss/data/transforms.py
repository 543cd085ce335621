"""What happens to an image on its way to the network: crop, flip, colours, padding (albumentations 2.0.8)."""

from __future__ import annotations

from dataclasses import dataclass

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from gss.data.crops import MEAN_COLOUR, NEAREST, NativeCrop, RandomScaleCrop
from gss.data.distortion import PhotometricDistortion
from gss.labels import IGNORE
from gss.registry import one_of

GEOMETRIES = ("fit", "native")
COLOURS = ("jitter", "distortion")


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
        self._check_native()

    def _check_native(self) -> None:
        """Check what only geometry=native has."""
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


def evaluation_transform(size: tuple[int, int]) -> A.Compose:
    """Build the evaluation pipeline: the whole picture at (H, W) = `size`, nothing random."""
    return A.Compose([RandomScaleCrop(size, (1.0, 1.0))])


def native_transform() -> A.Compose:
    """Build the pipeline of evaluation at native size, which changes nothing: (H', W') stays as in the file."""
    return A.Compose([])
