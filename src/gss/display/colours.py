"""Tensors become pixels: images and maskiges as bytes, labels in their display colours, overlays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gss.labels import IGNORE, LabelSpace

if TYPE_CHECKING:
    from torch import Tensor

Colour = tuple[int, int, int]
Pixels = NDArray[np.uint8]

BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)
MAGENTA: Colour = (255, 0, 255)


def to_array(values: Tensor | NDArray[Any]) -> NDArray[Any]:
    """Bring a tensor of any shape and device to numpy, floats (bfloat16 too) as float32; arrays pass unchanged."""
    if isinstance(values, np.ndarray):
        return values
    values = values.detach().cpu()
    array: NDArray[Any] = (values.float() if values.is_floating_point() else values).numpy()
    return array


def to_pixels(image: Tensor | NDArray[np.float32]) -> Pixels:
    """Round an image or maskige, (3, H, W) float in [0, 1], to (H, W, 3) uint8."""
    channels_last = np.moveaxis(to_array(image), 0, -1)
    return np.asarray(np.rint(np.clip(channels_last, 0.0, 1.0) * 255.0), dtype=np.uint8)


def ignore_colour(label_space: LabelSpace) -> Colour:
    """Choose what ignored pixels look like: black, as in Cityscapes and CamVid, unless a class is black."""
    return next((colour for colour in (BLACK, WHITE) if colour not in label_space.colours), MAGENTA)


def colour_labels(labels: Tensor | NDArray[np.integer[Any]], label_space: LabelSpace) -> Pixels:
    """Paint labels for the eye, in the display colours of the data set (not the maskige palette).

    Args:
        labels: (H, W) integer train ids, [0, K) or 255 = ignore.
        label_space: gives the K display colours.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: a train id is neither a class nor 255.
    """
    ids = to_array(labels).astype(np.int64)
    beyond = (ids != IGNORE) & ((ids < 0) | (ids >= label_space.num_classes))
    if beyond.any():
        raise ValueError(
            f"labels hold the train id {int(ids[beyond][0])}, but {label_space.num_classes} classes have "
            f"0 to {label_space.num_classes - 1} ({IGNORE} = ignore); translate file ids by data.label_space"
        )
    table = np.empty((IGNORE + 1, 3), dtype=np.uint8)
    table[: label_space.num_classes] = label_space.colours
    table[IGNORE] = ignore_colour(label_space)
    return np.asarray(table[ids])


def overlay(
    image: Tensor | NDArray[np.float32],
    labels: Tensor | NDArray[np.integer[Any]],
    label_space: LabelSpace,
    opacity: float = 0.5,
) -> Pixels:
    """Lay the labels' display colours over the image; ignored pixels keep the image.

    Args:
        image: (3, H, W) float in [0, 1].
        labels: (H, W) integer train ids, [0, K) or 255.
        label_space: gives the K display colours.
        opacity: 0 shows the image alone, 1 the labels alone.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: opacity leaves [0, 1], or the sizes differ.
    """
    if not 0.0 <= opacity <= 1.0:
        raise ValueError(f"an overlay's opacity lies in 0 to 1, got {opacity}; mend opacity")
    pixels, ids = to_pixels(image), to_array(labels)
    if pixels.shape[:2] != ids.shape:
        raise ValueError(
            f"image and labels differ in size, {pixels.shape[:2]} and {ids.shape} (H, W); "
            "bring the labels to the image's size by nearest neighbour"
        )
    weight = np.where(ids == IGNORE, 0.0, opacity)[..., None]
    mixed = (1.0 - weight) * pixels + weight * colour_labels(ids, label_space)
    return np.asarray(np.rint(mixed), dtype=np.uint8)
