from __future__ import annotations

import math
import os

import pytest
import timm
import torch
from safetensors.torch import save_file

from gss.networks.backbone import TimmBackbone

CHANNELS = {
    "resnet18": [64, 128, 256, 512],
    "swin_tiny_patch4_window7_224": [96, 192, 384, 768],  # NHWC, and made for one input size
    "convnext_tiny": [96, 192, 384, 768],
}


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return TimmBackbone("resnet18").eval()


@pytest.mark.parametrize("name", CHANNELS)
@torch.no_grad()
def test_any_size_gives_a_pyramid_of_the_promised_shapes(name):
    backbone = TimmBackbone(name).eval()
    assert backbone.channels == CHANNELS[name]
    assert backbone.strides == [4, 8, 16, 32]
    for height, width in ((50, 70), (64, 64), (32, 33)):
        pyramid = backbone(torch.rand(1, 3, height, width))
        expected = [
            (1, channels, math.ceil(height / stride), math.ceil(width / stride))
            for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
        ]
        assert [tuple(level.shape) for level in pyramid] == expected


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


@torch.no_grad()
def test_normalisation_is_inside(resnet):
    plain = timm.create_model("resnet18", features_only=True, out_indices=(1, 2, 3, 4)).eval()
    plain.load_state_dict(resnet.network.state_dict(), strict=False)
    image = torch.rand(2, 3, 64, 64)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = plain((image - mean[:, None, None]) / deviation[:, None, None])
    for found, level in zip(resnet(image), expected, strict=True):
        torch.testing.assert_close(found, level)


@torch.no_grad()
def test_weights_of_a_local_file_are_really_loaded(tmp_path):
    torch.manual_seed(1)
    whole = timm.create_model("resnet18", num_classes=1000)
    save_file(whole.state_dict(), tmp_path / "resnet.safetensors")
    torch.manual_seed(2)
    backbone = TimmBackbone("resnet18", weights=str(tmp_path / "resnet.safetensors"))
    loaded = backbone.network.state_dict()
    assert len(loaded) > 100
    assert all(tensor.equal(whole.state_dict()[name]) for name, tensor in loaded.items())


class Payload:
    """Makes a folder when it is unpickled by a careless reader."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_weights_file_is_never_executed(tmp_path):
    torch.save({"conv1.weight": Payload(str(tmp_path / "executed"))}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"backbone\.weights=.*weights\.pth"):
        TimmBackbone("resnet18", weights=str(tmp_path / "weights.pth"))
    assert not (tmp_path / "executed").exists()


def test_weights_of_another_network_are_refused_with_the_key(tmp_path):
    save_file({"conv1.weight": torch.zeros(3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"backbone\.weights=.*other\.safetensors.*resnet18"):
        TimmBackbone("resnet18", weights=str(tmp_path / "other.safetensors"))


def test_a_mistyped_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"no backbone\.name='resnet81': nearest are .*resnet18"):
        TimmBackbone("resnet81")


def test_a_missing_weights_file_is_named_with_its_key(tmp_path):
    with pytest.raises(ValueError, match=r"backbone\.weights=.*nothing\.safetensors is not a file"):
        TimmBackbone("resnet18", weights=str(tmp_path / "nothing.safetensors"))
