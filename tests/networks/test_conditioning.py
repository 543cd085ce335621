from __future__ import annotations

import numpy as np
import pytest
import torch

from gss.networks.backbone import TimmBackbone
from gss.networks.conditioning import ConditioningNetwork
from gss.networks.fusion import MultiLevelAggregation
from gss.networks.heads import BilinearPixelHead, FreeTokenHead, PyramidPixelHead, SubpixelHead, TiedTokenHead

TOKEN_HEADS = {
    "tied": lambda stride: TiedTokenHead(16, torch.rand(11, 3, stride, stride).softmax(1), torch.zeros(11)),
    "free": lambda stride: FreeTokenHead(16, 11, hidden=8),
    None: lambda stride: None,
}


PIXEL_HEADS = {
    "bilinear": lambda levels, stride: BilinearPixelHead(16, 3, stride),
    "subpixel": lambda levels, stride: SubpixelHead(16, 3, stride),
    "pyramid": lambda levels, stride: PyramidPixelHead(levels, 6, 3, stride),
}


def network(token="tied", pixel="bilinear", stride=8):
    torch.manual_seed(0)
    backbone = TimmBackbone("resnet18")
    fusion = MultiLevelAggregation(backbone.channels, 8, 16, num_heads=2, window_size=4)
    heads = PIXEL_HEADS[pixel](backbone.channels, stride), TOKEN_HEADS[token](stride)
    return ConditioningNetwork(backbone, fusion, *heads, stride)


@pytest.mark.parametrize("stride", [4, 8, 16])
@pytest.mark.parametrize("token", ["tied", "free"])
def test_an_image_gets_scores_for_tokens_and_pixels(token, stride):
    output = network(token, stride=stride)(torch.rand(1, 3, 64, 64))
    assert output.prior.logits().shape == (1, 11, 64 // stride, 64 // stride)
    assert output.pixel_logits.shape == (1, 3, 64, 64)


@pytest.mark.parametrize("pixel", PIXEL_HEADS)
def test_the_pixel_twin_scores_pixels_only(pixel):
    output = network(None, pixel)(torch.rand(1, 3, 64, 64))
    assert output.prior is None
    assert output.pixel_logits.shape == (1, 3, 64, 64)


def test_sides_need_not_be_powers_of_two():
    output = network().eval()(torch.rand(1, 3, 40, 72))
    assert output.prior.logits().shape == (1, 11, 5, 9)
    assert output.pixel_logits.shape == (1, 3, 40, 72)


@pytest.mark.parametrize("size", [(60, 64), (64, 60), (57, 3)])
def test_an_image_of_any_size_is_continued_to_whole_tokens(size):
    image, whole = torch.rand(1, 3, *size), network().eval()
    padded = np.pad(image.numpy(), ((0, 0), (0, 0), (0, -size[0] % 8), (0, -size[1] % 8)), mode="edge")
    output, expected = whole(image), whole(torch.from_numpy(padded))
    torch.testing.assert_close(output.prior.logits(), expected.prior.logits())
    torch.testing.assert_close(output.pixel_logits, expected.pixel_logits[..., : size[0], : size[1]])


def test_the_pyramid_head_sees_the_backbone_and_nothing_of_the_token_heads_fusion():
    whole = network(pixel="pyramid")
    whole(torch.rand(1, 3, 64, 64)).pixel_logits.square().sum().backward()
    reached = {name.split(".")[0] for name, weight in whole.named_parameters() if weight.grad is not None}
    assert reached == {"backbone", "pixel_head"}


@pytest.mark.parametrize("pixel", PIXEL_HEADS)
def test_every_weight_is_trained_by_both_heads_together(pixel):
    whole = network(pixel=pixel)
    output = whole(torch.rand(2, 3, 64, 64))
    (output.prior.logits().square().sum() + output.pixel_logits.square().sum()).backward()
    assert [name for name, weight in whole.named_parameters() if weight.grad is None] == []
