"""What a prediction is worth, pixel by pixel: where it is wrong, and how unsure it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gss.display.colours import Colour, Pixels, to_array, to_pixels
from gss.labels import IGNORE

if TYPE_CHECKING:
    from torch import Tensor

WRONG: Colour = (214, 32, 39)
IGNORED: Colour = (96, 101, 110)
PALE: Colour = (222, 222, 222)  # stands for the pale image in the legend
PALE_FLOOR = 150  # the darkest shade of a pale image: well above IGNORED, so the two never look alike


def pale(image: Tensor) -> Pixels:
    """Wash an image, (3, H, W) float in [0, 1], out to light greys, (H, W, 3) uint8 in [150, 255]."""
    luminance = to_pixels(image) @ np.array([0.299, 0.587, 0.114])
    shade = np.rint(PALE_FLOOR + (255 - PALE_FLOOR) / 255 * luminance).astype(np.uint8)
    return np.repeat(shade[..., None], 3, axis=2)


def error_map(image: Tensor, labels: Tensor, predicted_labels: Tensor) -> Pixels:
    """Show where a prediction is wrong: right pixels pale, wrong ones in strong red, ignored ones dark grey.

    Args:
        image: (3, H, W) float in [0, 1].
        labels: (H, W) int64 train ids, 255 = ignore.
        predicted_labels: (H, W) int64 train ids, [0, K).

    Returns:
        (H, W, 3) uint8.
    """
    truth, predicted = to_array(labels), to_array(predicted_labels)
    picture = pale(image)
    picture[truth != predicted] = WRONG
    picture[truth == IGNORE] = IGNORED
    return picture


def share_right(labels: Tensor, predicted_labels: Tensor) -> float | None:
    """Give the share of labelled pixels, (H, W) int64 both, that are right; None if none is labelled."""
    truth, predicted = to_array(labels), to_array(predicted_labels)
    labelled = truth != IGNORE
    return float((truth == predicted)[labelled].mean()) if labelled.any() else None


def uncertainty(class_probs: Tensor) -> NDArray[np.float32]:
    """Measure doubt as entropy over its largest possible value, -sum_k p_k log p_k / log K.

    Args:
        class_probs: (K, H, W) float, sums to 1 over K.

    Returns:
        (H, W) float32 in [0, 1]: 0 = one class holds everything, 1 = all classes equal.
    """
    probs = to_array(class_probs)
    entropy = np.zeros(probs.shape[1:], dtype=np.float32)
    for share in probs:  # class by class: K x H x W temporaries would take gigabytes for a large image
        entropy -= share * np.log(np.maximum(share, np.float32(1e-30)))
    most = np.log(max(len(probs), 2))  # a single class has no doubt to measure; avoid 0 / 0
    return np.asarray(np.clip(entropy / most, 0.0, 1.0), dtype=np.float32)


def heat(values: NDArray[np.floating[Any]]) -> Pixels:
    """Colour values, (...) float in [0, 1], with the perceptually even map `magma`: (..., 3) uint8."""
    from matplotlib import colormaps

    return np.asarray(colormaps["magma"](values, bytes=True)[..., :3])
