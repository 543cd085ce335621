"""Mosaic: one scene carved into classes of given areas, nearest things first, and a picture of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gss.data.ade20k import CLASSES, UNLABELLED
from gss.data.mosaics.kinds import kinds
from gss.data.mosaics.plan import Shares, pixel_counts
from gss.data.mosaics.shapes import GAUGES, INSTANCES, Field
from gss.data.scenes.canvas import Noise
from gss.labels import default_colours

_LAYERS = ("post", "rail", "blob", "box"), ("slab",), ("top", "bottom")  # from the front to the back


def draw_mosaic(
    seed: int, number: int, size: tuple[int, int], areas: Shares
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one scene.

    Args:
        seed: of the collection, at least 0.
        number: of the scene in it, at least 0.
        size: (H, W) of the result, pixels.
        areas: (151,) share of the picture by file id, one row of `plan_split`; kept to the pixel.

    Returns:
        A picture (H, W, 3) uint8 RGB, and its ADE20K file ids (H, W) uint8.
    """
    rng = np.random.default_rng([seed, number])
    ids = _carve(rng, size, pixel_counts(areas, size[0] * size[1]))
    return _paint(rng, ids), ids


def _carve(rng: np.random.Generator, size: tuple[int, int], counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Give each class the free pixels that lie deepest inside its shapes; the last one takes what is left.

    Small things come first, so they lie in front, and every class has its exact number of pixels.
    """
    ids = np.full(size[0] * size[1], UNLABELLED, np.uint8)
    free = np.arange(len(ids))
    for label_id in _front_to_back(counts):
        scores = _score(rng, size, label_id).ravel()[free]
        order = np.argpartition(scores, min(counts[label_id], len(free) - 1))
        ids[free[order[: counts[label_id]]]] = label_id
        free = np.sort(free[order[counts[label_id] :]])
    assert not len(free), f"{len(free)} pixels are left over"
    return ids.reshape(size)


def _front_to_back(counts: NDArray[np.int64]) -> list[int]:
    """The file ids that occur: things by growing area, slabs, what lies along the edges; the largest slab last."""
    found = np.flatnonzero(counts).tolist()
    backdrop = max((label_id for label_id in found if _kind(label_id) == "slab"), key=lambda i: counts[i], default=None)

    def _place(label_id: int) -> tuple[bool, int, int]:
        layer = next(number for number, layer in enumerate(_LAYERS) if _kind(label_id) in layer)
        return label_id == backdrop, layer, int(counts[label_id])

    return sorted(found, key=_place)


def _kind(label_id: int) -> str:
    return "blob" if label_id == UNLABELLED else kinds()[label_id - 1]


def _score(rng: np.random.Generator, size: tuple[int, int], label_id: int) -> Field:
    """The gauge of a class (H, W) float32: of several shapes the nearest, each of its own size."""
    kind = _kind(label_id)
    rows, columns = (((np.arange(side) + 0.5) / size[0]).astype(np.float32) for side in size)
    shapes = [
        GAUGES[kind](rng, rows[:, None], columns[None]) / np.float32(rng.uniform(0.5, 1) if INSTANCES[kind] > 1 else 1)
        for _ in range(int(rng.integers(1, INSTANCES[kind] + 1)))
    ]
    return np.asarray(np.minimum.reduce(shapes), np.float32)


def _paint(rng: np.random.Generator, ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) uint8 of file ids (H, W): a colour per class, its texture, uneven light and grain."""
    height, width = ids.shape
    colours = np.array([(120, 120, 120), *default_colours(len(CLASSES))], np.float32)
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : width / height : width * 1j].astype(np.float32)
    coarseness = (8 + 24 * (np.arange(len(colours)) % 5))[ids]  # neighbouring ids differ in texture as well
    texture = Noise(rng).cloud(rows * coarseness / 32, columns * coarseness / 32, 24)
    light = rng.uniform(0.75, 1.1) + rng.uniform(-0.25, 0.25) * rows + rng.uniform(-0.2, 0.2) * columns
    shaded = (0.6 * colours[ids] + 50) * (light * (1 + 0.12 * texture))[..., None]
    return np.asarray(np.clip(shaded + rng.normal(0, 5, ids.shape)[..., None], 0, 255), np.uint8)
