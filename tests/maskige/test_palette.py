from __future__ import annotations

import numpy as np
import pytest
import torch

from gss.maskige.palette import max_distance_palette


def farthest_points(num_colours):
    """Greedy choice from the definition: every candidate against every chosen colour, anew for each choice."""
    levels = np.arange(0, 256, 15)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    chosen = [grid[0]]
    while len(chosen) <= num_colours:
        distances = [min(int(((point - colour) ** 2).sum()) for colour in chosen) for point in grid]
        chosen.append(grid[distances.index(max(distances))])
    return np.array(chosen)


def every_colour(palette):
    """Colours and then the ignore colour on the 0-255 scale."""
    return torch.cat([palette.colours, palette.ignore_colour[None]]).double().mul(255).numpy()


@pytest.mark.parametrize("num_classes", [1, 2, 6])
def test_colours_are_the_farthest_points_of_the_grid(num_classes):
    palette, expected = max_distance_palette(num_classes), farthest_points(num_classes)
    assert palette.colours.shape == (num_classes, 3)
    assert palette.colours.dtype == torch.float32
    np.testing.assert_allclose(palette.colours.numpy() * 255, expected[1:], atol=1e-4)
    np.testing.assert_allclose(palette.ignore_colour.numpy() * 255, expected[0], atol=1e-4)


# for 19 and 150 classes the reference notes give 113.2 and 45.0 without a reserved colour
@pytest.mark.parametrize(("num_classes", "at_least"), [(2, 255), (19, 100), (150, 40)])
def test_colours_keep_their_distance_the_ignore_colour_too(num_classes, at_least):
    colours = every_colour(max_distance_palette(num_classes))
    apart = np.sqrt(((colours[:, None] - colours[None]) ** 2).sum(-1))[~np.eye(len(colours), dtype=bool)]
    assert apart.min() >= at_least - 1e-3
    assert max_distance_palette(num_classes).min_distance() == pytest.approx(apart.min())


@pytest.mark.parametrize("num_classes", [2, 19, 150])
def test_every_colour_is_a_whole_8_bit_colour_and_none_occurs_twice(num_classes):
    colours = every_colour(max_distance_palette(num_classes))
    np.testing.assert_allclose(colours, colours.round(), atol=1e-4)
    assert len({tuple(colour) for colour in colours.round().tolist()}) == num_classes + 1


def test_a_palette_begins_with_the_palette_of_fewer_classes():
    torch.testing.assert_close(max_distance_palette(150).colours[:19], max_distance_palette(19).colours, rtol=0, atol=0)


@pytest.mark.parametrize("num_classes", [0, -1, 5832])
def test_a_palette_that_cannot_be_is_refused_with_the_key(num_classes):
    with pytest.raises(ValueError, match=rf"1 to 5831 classes, got {num_classes}: check data\.label_space"):
        max_distance_palette(num_classes)
