from __future__ import annotations

import math

import pytest
import timm
import torch

from gss.networks.backbone import TimmBackbone

CHANNELS = {
    "resnet18": [64, 128, 256, 512],
    "swin_tiny_patch4_window7_224": [96, 192, 384, 768],  # NHWC, and made for one input size
    "test_convnext": [24, 32, 48, 64],
    "pvt_v2_b0": [32, 64, 160, 256],
    "regnety_002": [24, 56, 152, 368],
    "hrnet_w18_small": [16, 32, 64, 128],  # cut by timm itself
}


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return TimmBackbone("resnet18").eval()


@pytest.fixture(scope="module", params=CHANNELS)
def backbone(request):
    torch.manual_seed(0)
    return request.param, TimmBackbone(request.param)


@torch.no_grad()
def test_any_size_gives_a_pyramid_of_the_promised_shapes(backbone):
    name, built = backbone
    built.eval()
    assert built.channels == CHANNELS[name]
    assert built.strides == [4, 8, 16, 32]
    for height, width in ((50, 70), (64, 64), (32, 33), (1, 5)):
        pyramid = built(torch.rand(1, 3, height, width))
        expected = [
            (1, channels, math.ceil(height / stride), math.ceil(width / stride))
            for channels, stride in zip(built.channels, built.strides, strict=True)
        ]
        assert [tuple(level.shape) for level in pyramid] == expected


def test_no_weight_is_left_that_no_map_needs(backbone):
    """Several processes wait for every gradient."""
    built = backbone[1].train()
    sum(level.square().sum() for level in built(torch.rand(2, 3, 64, 64))).backward()
    assert [name for name, weight in built.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("name", ["resnet18", "regnety_002", "swin_tiny_patch4_window7_224", "hrnet_w18_small"])
@torch.no_grad()
def test_the_maps_are_those_that_timm_takes_out(name):
    torch.manual_seed(0)
    built = TimmBackbone(name).eval()
    settings = {"feature_location": ""} if name.startswith("hrnet") else {}
    settings |= {"img_size": 128, "always_partition": True} if name.startswith("swin") else {}
    plain = timm.create_model(name, features_only=True, out_indices=(-4, -3, -2, -1), **settings).eval()
    state = {key.replace("layers.", "layers_"): value for key, value in built.network.state_dict().items()}
    plain.load_state_dict(state if name.startswith("swin") else built.network.state_dict())
    image = torch.rand(2, 3, 128, 128)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    if name.startswith("hrnet"):
        plain._out_idx = {1, 2, 3, 4}
    expected = plain((image - mean[:, None, None]) / deviation[:, None, None])
    for found, level in zip(built(image), expected, strict=True):
        torch.testing.assert_close(found, level.movedim(-1, 1) if name.startswith("swin") else level)


@torch.no_grad()
def test_a_height_that_equals_the_channels_is_not_taken_for_them():
    pyramid = TimmBackbone("swin_tiny_patch4_window7_224").eval()(torch.rand(1, 3, 4 * 96, 32))
    assert pyramid[0].shape == (1, 96, 96, 8)


@torch.no_grad()
def test_channels_last_networks_keep_rows_and_columns_apart():
    """A change in the picture's left part shows in the left part of the finest map."""
    backbone = TimmBackbone("swin_tiny_patch4_window7_224").eval()
    image = torch.rand(1, 3, 32, 128)
    changed = image.clone()
    changed[..., :8] = 0
    difference = (backbone(image)[0] - backbone(changed)[0]).abs().amax(dim=(0, 1, 2))
    assert difference[:2].min() > 10 * difference[-2:].max()


def test_every_weight_of_the_network_has_a_depth_in_the_order_of_the_computation(backbone):
    name, built = backbone
    depths = built.layer_depths()
    assert depths.keys() == {f"network.{inner}" for inner, _ in built.network.named_parameters()}
    assert set(depths.values()) == set(range(max(depths.values()) + 1))
    first, last = next(iter(depths)), list(depths)[-1]
    assert (depths[first], depths[last]) == (0, max(depths.values()))
    assert max(depths.values()) >= {"resnet18": 8, "swin_tiny_patch4_window7_224": 12}.get(name, 4)  # its blocks


@torch.no_grad()
def test_normalisation_is_inside(resnet):
    """An image of the mean colour is zero to the network, and so is what it is padded with."""
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    small, whole = resnet(mean.expand(1, 3, 40, 40)), resnet(mean.expand(1, 3, 64, 64))
    for found, expected, stride in zip(small, whole, resnet.strides, strict=True):
        side = math.ceil(40 / stride)
        torch.testing.assert_close(found, expected[..., :side, :side])


def test_a_mistyped_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"no backbone\.name='resnet81': nearest are .*resnet18"):
        TimmBackbone("resnet81")


def test_a_mistyped_tag_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"no weights of backbone\.name='resnet18\.a9': there are .*resnet18\.a1_in1k"):
        TimmBackbone("resnet18.a9")


def test_weights_that_nobody_published_are_not_made_up():
    with pytest.raises(ValueError, match=r"pretrained=true, but timm publishes no weights for .*botnet50ts_256"):
        TimmBackbone("botnet50ts_256", pretrained=True)
