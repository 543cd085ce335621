from __future__ import annotations

import os

import pytest
import timm
import torch
from safetensors.torch import save_file

from gss.networks.backbone import TimmBackbone


@pytest.fixture(scope="module")
def resnet():
    """Whole weights of another draw, classifier included."""
    torch.manual_seed(1)
    return timm.create_model("test_resnet", num_classes=10).state_dict()


def save(state, path):
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        torch.save(state, path)
    return str(path)


def holds(backbone, state):
    loaded = backbone.network.state_dict()
    assert len(loaded) > 20
    return all(tensor.equal(state[name]) for name, tensor in loaded.items())


WRAPPED = {
    "w.safetensors": lambda state: state,
    "w.pth": lambda state: state,
    "lightning.pth": lambda state: {"state_dict": state, "epoch": 3},
    "research.bin": lambda state: {"model": state, "optimizer": {"lr": 0.1}},
}


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("classifier", [True, False])
def test_weights_of_a_local_file_are_really_loaded(tmp_path, resnet, name, classifier):
    state = {key: value for key, value in resnet.items() if classifier or not key.startswith("fc.")}
    path = save(WRAPPED[name](state), tmp_path / name)
    torch.manual_seed(2)
    backbone = TimmBackbone("test_resnet", weights=path)
    assert holds(backbone, resnet)
    assert backbone.origin == f"weights of {path}"
    assert not holds(TimmBackbone("test_resnet"), resnet)


def test_a_file_wins_over_published_weights(tmp_path, resnet):
    backbone = TimmBackbone("test_resnet", pretrained=True, weights=save(resnet, tmp_path / "w.safetensors"))
    assert holds(backbone, resnet)


@pytest.mark.parametrize("name", ["test_convnext", "regnety_002", "hrnet_w18_small", "test_vit", "pvt_v2_b0"])
def test_files_of_every_kind_of_network_are_loaded_whole(tmp_path, name):
    torch.manual_seed(1)
    state = timm.create_model(name).state_dict()
    assert holds(TimmBackbone(name, weights=save(state, tmp_path / "w.pth")), state)


def test_nothing_is_silently_random():
    assert TimmBackbone("test_resnet").origin == "random initialisation"
    assert TimmBackbone("test_vit").origin == "random initialisation"


def test_published_weights_are_said_by_their_name(monkeypatch, resnet):
    create = timm.create_model

    def fetched(name, pretrained, **settings):
        assert pretrained
        network = create(name, num_classes=10, **settings)
        network.load_state_dict(resnet)
        return network

    monkeypatch.setattr(timm, "create_model", fetched)
    backbone = TimmBackbone("test_resnet", pretrained=True)
    assert backbone.origin == "timm's published weights for test_resnet"
    assert holds(backbone, resnet)


def test_weights_that_cannot_be_fetched_are_said_with_the_ways_out(monkeypatch):
    def offline(*_, **__):
        raise FileNotFoundError("An error happened while trying to locate the file on the Hub")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ValueError, match=r"could not fetch the weights of test_resnet .*backbone\.weights=FILE"):
        TimmBackbone("test_resnet", pretrained=True)


def test_an_original_swin_file_is_translated(tmp_path):
    """As Microsoft publishes them: under `model`, with masks, and downsampling at the end of the stage before."""
    torch.manual_seed(1)
    name = "swin_tiny_patch4_window7_224"
    state = timm.create_model(name).state_dict()
    original = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "layers" and parts[2] == "downsample":
            parts[1] = str(int(parts[1]) - 1)
        original[".".join(parts).replace("head.fc", "head")] = value
    original["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    original["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
    backbone = TimmBackbone(name, weights=save({"model": original}, tmp_path / "swin.pth"))
    assert holds(backbone, state)


def test_a_pyramid_behind_loaded_weights_is_said_to_be_new(tmp_path):
    state = timm.create_model("test_vit").state_dict()
    backbone = TimmBackbone("test_vit", weights=save(state, tmp_path / "w.pth"))
    assert backbone.origin.endswith("w.pth, feature pyramid at random")


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


def test_weights_of_another_network_are_refused_with_each_kind_of_key_apart(tmp_path, resnet):
    state = dict(resnet)
    lost = [key for key in resnet if key.startswith("layer4.") and "num_batches" not in key]
    for key in lost:
        del state[key]
    state |= {
        "conv1.0.weight": torch.zeros(3, 3),
        "layer1.9.conv1.weight": torch.zeros(1),
        "neck.weight": torch.zeros(1),
    }
    with pytest.raises(ValueError, match=r"backbone\.weights=.*other\.safetensors") as refusal:
        TimmBackbone("test_resnet", weights=save(state, tmp_path / "other.safetensors"))
    message = str(refusal.value)
    assert f"{len(lost)} missing ({', '.join(lost[:3])}, ...)" in message
    assert "1 unexpected (layer1.9.conv1.weight)" in message  # a neck is no part of the network
    assert "1 of another shape (conv1.0.weight is (3, 3), not (" in message
    assert "backbone.name=test_resnet" in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["test_convnext", "test_vit", "eva02_tiny_patch14_224", "regnety_002", "pvt_v2_b0"])
def test_another_architectures_file_is_refused_whatever_timm_makes_of_it(tmp_path, resnet, name):
    with pytest.raises(ValueError, match=rf"does not fit backbone\.name={name}: \d+ missing"):
        TimmBackbone(name, weights=save(resnet, tmp_path / "w.safetensors"))


def test_a_deeper_networks_file_is_not_cut_to_fit(tmp_path):
    deeper = timm.create_model("resnet34").state_dict()
    with pytest.raises(ValueError, match=r"name=resnet18: \d+ unexpected \(layer1\.2\."):
        TimmBackbone("resnet18", weights=save(deeper, tmp_path / "w.pth"))


def test_a_missing_weights_file_is_named_with_its_key(tmp_path):
    with pytest.raises(ValueError, match=r"backbone\.weights=.*nothing\.safetensors is not a file"):
        TimmBackbone("resnet18", weights=str(tmp_path / "nothing.safetensors"))


@pytest.mark.parametrize("name", ["broken.safetensors", "broken.pth"])
def test_a_damaged_file_is_named_with_its_key(tmp_path, name):
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(ValueError, match=rf"backbone\.weights=.*{name} cannot be read as a state dict"):
        TimmBackbone("test_resnet", weights=str(tmp_path / name))


def test_a_file_without_tensors_is_named_with_its_key(tmp_path):
    with pytest.raises(ValueError, match=r"holds no tensors by name"):
        TimmBackbone("test_resnet", weights=save({"epoch": 3}, tmp_path / "w.pth"))
