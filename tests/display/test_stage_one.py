"""Palette and codebook as pictures: every colour and tile in its place, nothing outside the margin."""

from __future__ import annotations

import numpy as np
import pytest

from gss.display.stage_one import draw_codebook, draw_palette, order_by_use, share_in_words

MARGIN = 12


def drawn_colours(number):
    random = np.random.default_rng(number)
    return [tuple(colour) for colour in random.choice(200, (number, 3)).tolist()]


def places(picture, colour):
    """(rows, columns) of the pixels of one colour."""
    return np.nonzero((np.asarray(picture) == colour).all(-1))


@pytest.mark.parametrize("number", [2, 7, 20, 151])
def test_a_palette_shows_its_colours_in_order_and_nothing_spills(number):
    colours = drawn_colours(number)
    names = [f"a class with quite a long name, number {k}" if k % 3 == 0 else f"class {k}" for k in range(number)]
    picture = draw_palette(names, colours, (0, 1, 12.3))
    pixels = np.asarray(picture)
    shades, first = np.unique(pixels.reshape(-1, 3) @ [65536, 256, 1], return_index=True)
    corners = [first[shades == int(np.dot(colour, [65536, 256, 1]))].item() for colour in colours]  # in reading order
    assert corners == sorted(corners)
    assert (pixels[MARGIN:-MARGIN, MARGIN:-MARGIN] != 255).sum() == (pixels != 255).sum() > 0
    assert 0.5 < picture.width / picture.height < 4


def test_the_closest_pair_touches_below_the_swatches():
    colours = drawn_colours(9)
    picture = draw_palette([f"class {k}" for k in range(9)], colours, (3, 7, 1.5))
    alone = [places(picture, colours[k]) for k in (3, 7, 5)]
    assert len(alone[0][0]) > 1.9 * len(alone[2][0])  # once more than a class that is in no pair
    lowest = int(alone[0][0].max())
    first, second = ([x for y, x in zip(*found, strict=True) if y == lowest] for found in alone[:2])
    assert max(first) + 1 == min(second)


def test_another_pair_or_distance_is_another_picture():
    names, colours = ["road", "car", "sky"], drawn_colours(3)
    pictures = [draw_palette(names, colours, pair).tobytes() for pair in ((0, 1, 5.0), (0, 1, 6.0), (1, 2, 5.0))]
    assert len(set(pictures)) == 3


@pytest.mark.parametrize(("number", "side"), [(1, 8), (5, 4), (40, 8), (1024, 8), (12, 48)])
def test_a_codebook_shows_its_tiles_in_order_and_nothing_spills(number, side):
    tiles = np.random.default_rng(0).integers(0, 200, (number, side, side, 3), np.uint8)
    picture = draw_codebook(tiles, np.linspace(1, 0, number), "what this is")
    pixels, factor = np.asarray(picture), max(1, 32 // side)
    corners = []
    for tile in (tiles[0], tiles[number // 2], tiles[-1]):
        wanted = tile.repeat(factor, 0).repeat(factor, 1)
        starts = zip(*places(picture, wanted[0, 0]), strict=True)
        size = len(wanted)
        corners.append(next((y, x) for y, x in starts if np.array_equal(pixels[y : y + size, x : x + size], wanted)))
    assert corners == sorted(corners)
    assert (pixels[MARGIN:-MARGIN, MARGIN:-MARGIN] != 255).sum() == (pixels != 255).sum()


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (1, "100%"),
        (0.0995, "10%"),
        (0.0123, "1.2%"),
        (0.0095, "0.9%"),
        (0.00123, ".12%"),
        (0.00006, ".01%"),
        (1e-9, "<.01%"),
        (0, "-"),
    ],
)
def test_shares_are_short(share, words):
    assert share_in_words(share) == words


def test_the_most_used_come_first_and_equal_ones_in_order():
    assert order_by_use([3, 0, 7, 3, 0], 4) == [2, 0, 3, 1]
