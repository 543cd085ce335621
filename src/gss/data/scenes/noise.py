"""Noise: tiles of cloud-like and of white texture, looked up wherever a surface must not be flat."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

_SIDE = 256
_FINE = 4  # the soft tile is stored this much finer, so that plain indexing shows no squares


class Noise:
    """The texture of one scene: a part of the common tiles, chosen at random.

    Args:
        rng: chooses the part.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        """Choose where to look; the tiles repeat every 256 cells."""
        self._origin = rng.uniform(0, _SIDE, 2).tolist()

    def cloud(self, u: NDArray[np.floating], v: NDArray[np.floating], cells: float) -> NDArray[np.float32]:
        """Look up soft noise at u and v, (...) float to (...) float32, mean about 0 and deviation about 1.

        One unit of u or v spans `cells` of the 256 cells.
        """
        return self._look_up(_tiles()[0], u, v, cells, _FINE)

    def grain(self, u: NDArray[np.floating], v: NDArray[np.floating], cells: float) -> NDArray[np.float32]:
        """Look up white noise, (...) float to (...) float32, mean 0 and deviation 1; cells as in `cloud`."""
        return self._look_up(_tiles()[1], u, v, cells, 1)

    def _look_up(
        self,
        tile: NDArray[np.float32],
        u: NDArray[np.floating],
        v: NDArray[np.floating],
        cells: float,
        fine: int,
    ) -> NDArray[np.float32]:
        """Index a tile (side, side) by wrapped cell numbers: u, v (...) to (...) float32; side is a power of two."""
        rows, columns = (
            np.floor((axis * cells + start) * fine).astype(np.int32) & (len(tile) - 1)
            for axis, start in zip((u, v), self._origin, strict=True)
        )
        return np.asarray(tile[rows, columns], np.float32)


@cache
def _tiles() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Make the soft tile, whose amplitude falls with frequency as in clouds and foliage, and the white one.

    They are (1024, 1024) and (256, 256) float32 of deviation about 1. White
    noise is shaped in the frequency domain, which makes the tile seamless for free.
    """
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE)[None]) * _SIDE
    spectrum = np.fft.rfft2(rng.standard_normal((_SIDE, _SIDE))) / np.maximum(frequency, 1.5) ** 1.2
    soft = np.fft.irfft2(spectrum)
    framed = np.pad(soft / soft.std(), 1, mode="wrap").astype(np.float32)  # so that resizing keeps it seamless
    cloud = np.asarray(cv2.resize(framed, None, fx=_FINE, fy=_FINE), np.float32)[_FINE:-_FINE, _FINE:-_FINE]
    return np.ascontiguousarray(cloud), rng.standard_normal((_SIDE, _SIDE)).astype(np.float32)
