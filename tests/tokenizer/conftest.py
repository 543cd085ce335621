"""A palette of five classes, drawn maskiges, and a patch dictionary fitted to them."""

from __future__ import annotations

import pytest

from gss.maskige.palette import max_distance_palette
from gss.maskige.transform import MaskigeTransform
from gss.tokenizer.patches import PatchDictionary


@pytest.fixture(scope="session")
def palette():
    return max_distance_palette(5)


@pytest.fixture(scope="session")
def transform(palette):
    return MaskigeTransform(palette)


@pytest.fixture(scope="session")
def labels(draw_labels):
    """Fully labelled maps, (6, 32, 48)."""
    return draw_labels(6, (32, 48), num_classes=5)


@pytest.fixture
def fit(palette, transform, labels):
    """Give a function that fits a patch dictionary of stride 4 to the drawn labels, or to others."""

    def fitted(vocab_size=16, to=labels, **settings):
        dictionary = PatchDictionary(stride=4, vocab_size=vocab_size, **settings)
        dictionary.fit([transform.paint(to[:4]), transform.paint(to[4:])], palette.colours, palette.ignore_colour)
        return dictionary

    return fitted
