from __future__ import annotations

import numpy as np
import pytest
import torch

from gss.labels import LabelSpace
from gss.maskige.palette import PALETTES, Palette, dataset_palette, max_distance_palette, random_palette


def every_colour(palette):
    """Colours and then the ignore colour on the 0-255 scale."""
    return torch.cat([palette.colours, palette.ignore_colour[None]]).double().mul(255).numpy()


def closest_pair(colours):
    """Every difference of two rows, on the scale of the colours."""
    apart = np.sqrt(((colours[:, None] - colours[None]) ** 2).sum(-1))
    return apart[~np.eye(len(colours), dtype=bool)].min()


# the greedy choice alone reaches 113.2, 45.0 and 42.4 for the last three
@pytest.mark.parametrize(("num_classes", "at_least"), [(2, 360), (19, 127), (150, 58), (194, 53)])
def test_colours_are_far_apart_the_ignore_colour_too(num_classes, at_least):
    palette = max_distance_palette(num_classes)
    assert palette.colours.shape == (num_classes, 3)
    assert palette.colours.dtype == torch.float32
    assert closest_pair(every_colour(palette)) >= at_least
    assert palette.min_distance() == pytest.approx(closest_pair(every_colour(palette)), abs=1e-3)


@pytest.mark.parametrize("name", ["max_distance", "random", "learned"])
@pytest.mark.parametrize("num_classes", [1, 2, 11, 19, 150, 194])
def test_every_colour_is_a_whole_8_bit_colour_and_none_occurs_twice(name, num_classes):
    palette = PALETTES[name](LabelSpace.from_names([f"class {k}" for k in range(num_classes)]), 0)
    colours = every_colour(palette)
    np.testing.assert_allclose(colours, colours.round(), atol=1e-4)
    assert len({tuple(colour) for colour in colours.round().tolist()}) == num_classes + 1
    assert palette.ignore_colour.tolist() == [0, 0, 0]
    palette.check(num_classes)


def test_random_colours_follow_their_seed():
    first, again, other = (random_palette(19, seed).colours for seed in (3, 3, 4))
    assert first.equal(again)
    assert not first.equal(other)


def test_random_colours_fill_the_cube():
    colours = every_colour(random_palette(4000))[:-1]
    np.testing.assert_allclose(colours.mean(0), 127.5, atol=5)  # the mean of 4000 has a deviation of 1.2


def test_the_dataset_palette_is_its_display_colours():
    label_space = LabelSpace.from_names(["a", "b"], colours=[(1, 2, 3), (250, 0, 9)])
    np.testing.assert_allclose(every_colour(dataset_palette(label_space)), [(1, 2, 3), (250, 0, 9), (0, 0, 0)])


@pytest.mark.parametrize(
    ("colours", "said"),
    [
        ([(1, 2, 3), (4, 5, 6), (1, 2, 3)], r"gives classes 0 and 2 the same colour \(1, 2, 3\)"),
        ([(1, 2, 3), (0, 0, 0), (4, 5, 6)], r"gives class 1 the colour \(0, 0, 0\) of ignored pixels"),
    ],
)
def test_display_colours_that_do_not_tell_classes_apart_are_refused(colours, said):
    with pytest.raises(ValueError, match=rf"maskige\.palette {said}: mend data\.label_space\.colours"):
        dataset_palette(LabelSpace.from_names(["a", "b", "c"], colours=colours))


@pytest.mark.parametrize("num_classes", [18, 20])
def test_a_palette_of_another_length_is_refused(num_classes):
    with pytest.raises(ValueError, match=rf"maskige\.palette has 19 colours for {num_classes} classes"):
        max_distance_palette(19).check(num_classes)


def test_colours_that_become_one_when_rounded_are_refused():
    colours = torch.tensor([[0.5, 0.5, 0.5], [0.5001, 0.5, 0.5]])
    with pytest.raises(ValueError, match="classes 0 and 1 the same colour"):
        Palette(colours, torch.zeros(3)).check(2)


@pytest.mark.parametrize("num_classes", [0, -1, 512])
def test_more_classes_than_a_palette_separates_are_refused_with_the_key(num_classes):
    said = rf"maskige\.palette=max_distance separates 1 to 511 classes, got {num_classes}: check data\.label_space"
    with pytest.raises(ValueError, match=said):
        max_distance_palette(num_classes)


@pytest.mark.parametrize("num_classes", [0, 2**24])
def test_more_classes_than_there_are_colours_are_refused(num_classes):
    with pytest.raises(ValueError, match=rf"maskige\.palette=random colours 1 to 16777215 classes, got {num_classes}"):
        random_palette(num_classes)


def test_the_closest_pair_is_named_and_may_be_one_with_the_ignore_colour():
    palette = Palette.from_8_bit(torch.tensor([[255, 0, 0], [0, 9, 0], [250, 0, 3]]))
    assert palette.closest_pair() == (0, 2, pytest.approx(34**0.5))
    assert Palette.from_8_bit(torch.tensor([[255, 0, 0], [0, 9, 0]])).closest_pair() == (1, 2, 9)
