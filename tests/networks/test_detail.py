from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gss.assembly import build_segmenter
from gss.configuration import to_plain
from gss.networks.detail import DetailPath

LEVEL = 5  # channels of the finest level


def detail(width=3, stride=8, level_stride=4):
    torch.manual_seed(0)
    path = DetailPath(LEVEL, width, stride, level_stride).eval()
    nn.init.normal_(path.reduce[1].running_mean)
    return path


def by_hand(path, level, side):
    """Convolution and normalisation written out, then the positions of each cell in reading order, per channel."""
    weight, norm = path.reduce[0].weight.detach().numpy(), path.reduce[1]
    padded = np.pad(level.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    height, width = level.shape[-2:]
    reduced = sum(
        np.einsum("dc,bchw->bdhw", weight[:, :, y, x], padded[:, :, y : y + height, x : x + width])
        for y in range(3)
        for x in range(3)
    )
    reduced = np.maximum((reduced - norm.running_mean.numpy()[:, None, None]) / float(1 + norm.eps) ** 0.5, 0)
    positions = [reduced[:, :, y::side, x::side] for y in range(side) for x in range(side)]
    return torch.from_numpy(np.stack(positions, axis=2).reshape(len(level), -1, height // side, width // side))


@pytest.mark.parametrize(("stride", "level_stride", "side"), [(8, 4, 2), (16, 4, 4), (4, 4, 1)])
def test_each_position_of_a_cell_keeps_channels_of_its_own(stride, level_stride, side):
    path, grid = detail(stride=stride, level_stride=level_stride), (3, 2)
    level = torch.rand(2, LEVEL, grid[0] * side, grid[1] * side)
    assert path.channels == 3 * side**2
    torch.testing.assert_close(path([level], grid), by_hand(path, level, side), atol=1e-5, rtol=1e-4)


def test_a_level_coarser_than_the_tokens_is_enlarged():
    path = detail(stride=8, level_stride=16)
    assert path.channels == 3
    assert path([torch.rand(1, LEVEL, 4, 3)], (8, 6)).shape == (1, 3, 8, 6)


@pytest.mark.parametrize("size", [(15, 12), (16, 11)])
def test_a_level_that_misses_the_grid_is_resized_to_it(size):
    """A backbone may round a side down, or work at 7/8 of the resolution."""
    assert detail()([torch.rand(1, LEVEL, *size)], (8, 6)).shape == (1, 12, 8, 6)


def config(compose_tiny, tmp_path, *overrides):
    return to_plain(compose_tiny(tmp_path, "stage=conditioning", "head=pixel_bilinear", *overrides))


@pytest.mark.parametrize("backbone", ["resnet18", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("stride", [4, 8, 16])
def test_the_pixel_twin_sees_the_same_detail(compose_tiny, tmp_path, backbone, stride):
    given = (f"tokenizer.stride={stride}", "data.size=[64,64]", f"backbone.name={backbone}", "fusion.detail=2")
    network = build_segmenter(config(compose_tiny, tmp_path, *given), 3, None).eval().network
    assert network.pixel_head.scores.in_channels == 16 + 2 * (stride // 4) ** 2
    assert network(torch.rand(1, 3, 50, 70)).pixel_logits.shape == (1, 3, 50, 70)


def test_a_checkpoint_that_knows_nothing_of_detail_has_none(compose_tiny, tmp_path):
    older = config(compose_tiny, tmp_path)
    del older["fusion"]["detail"]
    assert build_segmenter(older, 3, None).network.detail is None
