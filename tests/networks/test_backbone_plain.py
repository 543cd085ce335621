from __future__ import annotations

import math

import pytest
import torch

from gss.networks.backbone import PlainPyramid, TimmBackbone, resize_to_patches

WIDTHS = {"eva02_tiny_patch14_224": 192, "test_vit": 64, "vit_small_patch16_dinov3": 384}


@pytest.fixture(scope="module", params=WIDTHS)
def plain(request):
    torch.manual_seed(0)
    return WIDTHS[request.param], TimmBackbone(request.param)


@torch.no_grad()
def test_a_plain_transformer_of_any_patch_gives_four_scales_of_any_size(plain):
    width, backbone = plain
    backbone.eval()
    assert backbone.strides == [4, 8, 16, 32]
    assert backbone.channels == [width // 4, width // 2, width, width]
    for height, width in ((50, 70), (64, 32), (1, 33)):
        shapes = [tuple(level.shape[1:]) for level in backbone(torch.rand(1, 3, height, width))]
        assert shapes == [
            (channels, math.ceil(height / stride), math.ceil(width / stride))
            for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
        ]


def test_every_weight_of_transformer_and_pyramid_is_trained(plain):
    backbone = plain[1].train()
    sum(level.square().sum() for level in backbone(torch.rand(1, 3, 64, 64))).backward()
    assert [name for name, weight in backbone.named_parameters() if weight.grad is None] == []


def test_the_pyramid_has_no_depth_of_its_own(plain):
    names = plain[1].layer_depths().keys()
    assert names == {name for name, _ in plain[1].named_parameters() if not name.startswith("pyramid.")}


@torch.no_grad()
def test_a_token_sees_its_sixteen_pixels_whatever_the_patch():
    """Without attention between them, a change in one cell of 16x16 pixels is a change of its token alone."""
    torch.manual_seed(0)
    backbone = TimmBackbone("eva02_tiny_patch14_224").eval()
    image = torch.rand(1, 3, 64, 96)
    changed = image.clone()
    changed[..., 16:32, 48:64] = 1 - changed[..., 16:32, 48:64]
    embed = backbone.network.patch_embed
    difference = (embed(resize_to_patches(image, 14)) - embed(resize_to_patches(changed, 14))).abs().sum(-1)[0]
    cell = difference[1, 3].item()
    difference[1, 3] = 0
    assert difference.shape == (4, 6)
    assert cell > 5 * difference.max()  # what is left comes from interpolation over the border


def test_a_patch_of_sixteen_is_not_resized():
    image = torch.rand(1, 3, 32, 64)
    assert resize_to_patches(image, 16) is image
    assert resize_to_patches(image, 14).shape == (1, 3, 28, 56)
    assert resize_to_patches(image, 8).shape == (1, 3, 16, 32)


@torch.no_grad()
def test_the_scales_lie_over_each_other():
    """What is bright in one quarter of the map is bright in that quarter of every level."""
    pyramid, tokens = PlainPyramid(8).eval(), torch.zeros(1, 8, 4, 4)
    empty = pyramid(tokens.clone())
    tokens[..., :2, 2:] = 1.0
    for level, blank in zip(pyramid(tokens), empty, strict=True):
        changed = (level - blank).abs().sum(1)[0] > 1e-6
        half = changed.shape[0] // 2
        assert changed[:half, half:].all()
        assert changed.sum() == half * half
