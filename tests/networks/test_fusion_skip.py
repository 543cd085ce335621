from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gss.assembly.build import build_segmenter
from gss.cli.configuration import to_plain
from gss.networks.fusion import HighResolutionSkip

LEVEL, FUSED = 5, 7  # channels of the finest level and of the fused map


def detail(width=3, stride=8, level_stride=4):
    torch.manual_seed(0)
    path = HighResolutionSkip(LEVEL, FUSED, width, stride, level_stride).eval()
    for norm in (path.mix[0], path.mix[3]):
        nn.init.normal_(norm.running_mean)
    return path


def convolved(maps, convolution):
    """A 3x3 convolution of (B, C, H, W) float32 written out as sums over its nine positions."""
    weight, padded = convolution.weight.detach().numpy(), np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)))
    height, width = maps.shape[-2:]
    return sum(
        np.einsum("dc,bchw->bdhw", weight[:, :, y, x], padded[:, :, y : y + height, x : x + width])
        for y in range(3)
        for x in range(3)
    )


def activated(maps, norm):
    """BatchNorm with its running mean, variance 1, and ReLU."""
    return np.maximum((maps - norm.running_mean.numpy()[:, None, None]) / float(1 + norm.eps) ** 0.5, 0)


def by_hand(path, features, level):
    """The positions of each cell in reading order, per channel."""
    side, (height, width) = path.side, features.shape[-2:]
    coarse = np.einsum("dc,bchw->bdhw", path.coarse.weight.detach().numpy()[:, :, 0, 0], features.numpy())
    enlarged = nn.functional.interpolate(torch.from_numpy(coarse), scale_factor=side, mode="bilinear").numpy()
    mixed = activated(convolved(level.numpy(), path.fine) + enlarged, path.mix[0])
    mixed = activated(convolved(mixed, path.mix[2]), path.mix[3])
    positions = [mixed[:, :, y::side, x::side] for y in range(side) for x in range(side)]
    return torch.from_numpy(np.stack(positions, axis=2).reshape(len(level), -1, height, width))


@pytest.mark.parametrize(("stride", "level_stride", "side"), [(8, 4, 2), (16, 4, 4), (4, 4, 1)])
def test_each_position_of_a_cell_keeps_channels_of_its_own(stride, level_stride, side):
    path, features = detail(stride=stride, level_stride=level_stride), torch.rand(2, FUSED, 3, 2)
    level = torch.rand(2, LEVEL, 3 * side, 2 * side)
    assert path.channels == 3 * side**2
    torch.testing.assert_close(path(features, [level]), by_hand(path, features, level), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("size", "level_stride", "channels"), [((15, 12), 4, 12), ((16, 11), 4, 12), ((4, 3), 16, 3)])
def test_a_level_of_another_size_is_brought_to_the_cells(size, level_stride, channels):
    """A backbone may round a side down, or its finest level be coarser than the tokens."""
    path = detail(level_stride=level_stride)
    assert path(torch.rand(1, FUSED, 8, 6), [torch.rand(1, LEVEL, *size)]).shape == (1, channels, 8, 6)


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


def test_fewer_channels_than_none_are_refused(compose_tiny, tmp_path):
    with pytest.raises(ValueError, match=r"fusion\.detail=-1 must be a number of channels above 0, or 0 for no detail"):
        build_segmenter(config(compose_tiny, tmp_path, "fusion.detail=-1"), 3, None)
