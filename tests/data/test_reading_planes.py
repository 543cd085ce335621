"""Bytes to shares of white."""

from __future__ import annotations

import numpy as np

from gss.data.reading import planes


def test_images_become_planes_of_shares_of_white_as_by_transposing():
    image = np.random.default_rng(0).integers(0, 256, (7, 11, 3), dtype=np.uint8)
    shares = planes(image)
    np.testing.assert_array_equal(shares, np.float32(image).transpose(2, 0, 1) / np.float32(255))
    assert shares.flags.c_contiguous
