from __future__ import annotations

import pytest
import torch

from gss.maskige.nearest import NearestColourTable
from gss.maskige.palette import max_distance_palette, random_palette


def broadcast_argmin(maskige, colours):
    """The published form, all differences at once, in whole numbers; and whether one colour is clearly nearest."""
    pixels = (maskige.double() * 255).round().clamp(0, 255)
    whole = (colours.double() * 255).round()
    distances = (pixels[:, None] - whole[None, :, :, None, None]).square().sum(2)
    nearest = distances.topk(min(2, len(colours)), dim=1, largest=False).values
    return distances.argmin(1), nearest[:, 0] < nearest[:, -1]


@pytest.mark.parametrize(
    ("palette", "num_colours"),
    [(max_distance_palette, 2), (max_distance_palette, 19), (max_distance_palette, 150), (random_palette, 300)],
)
def test_the_table_gives_the_argmin_of_the_broadcast_form(palette, num_colours):
    colours = palette(num_colours).colours
    generator = torch.Generator().manual_seed(0)
    painted = colours[torch.randint(num_colours, (2, 40, 40), generator=generator)].movedim(-1, 1)
    noisy = painted + 0.3 * torch.randn(painted.shape, generator=generator)  # leaves [0, 1] too
    expected, clear = broadcast_argmin(noisy, colours)
    found = NearestColourTable(colours)(noisy)
    assert found.dtype == torch.int64
    assert clear.float().mean() > 0.9
    assert found[clear].equal(expected[clear])


def test_every_part_of_the_colour_cube_is_answered():
    colours = max_distance_palette(40).colours
    anywhere = torch.rand(1, 3, 210, 210, generator=torch.Generator().manual_seed(1))  # more than are looked up at once
    expected, clear = broadcast_argmin(anywhere, colours)
    assert NearestColourTable(colours)(anywhere)[clear].equal(expected[clear])


def test_answers_that_a_whole_block_shares_are_stored_once():
    one, two = (NearestColourTable(torch.tensor(colours)) for colours in ([[0.5] * 3], [[0.0] * 3, [1.0, 0.0, 0.0]]))
    blocks = 64**3 * 4  # bytes: 32 bits for each of the 4x4x4 blocks
    assert one.num_bytes == blocks + 64
    assert two.num_bytes == blocks + 2 * 64  # the border between 127 and 128 is one of blocks too


def test_of_equally_near_colours_the_first_is_taken():
    colours = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    reddish = torch.tensor([0.8, 0.1, 0.1])[None, :, None, None]
    assert NearestColourTable(colours)(reddish).tolist() == [[[1]]]
