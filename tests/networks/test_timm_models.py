from __future__ import annotations

import copy
import math

import pytest
import timm
import torch
from packaging.version import Version

from gss.networks import timm_models
from gss.networks.backbone import TimmBackbone
from gss.networks.timm_models import block_depths, stage_depths


def build(name="test_resnet", seed=0, **settings):
    torch.manual_seed(seed)
    backbone = TimmBackbone(name, **settings)
    for module in backbone.network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)  # timm begins with residual paths that add nothing
    return backbone


def images(batch=2, size=(64, 64)):
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(1))


def loss(backbone):
    return sum(level.square().mean() for level in backbone(images()))


@pytest.mark.parametrize(("stride", "strides"), [(8, [4, 8, 8, 8]), (16, [4, 8, 16, 16]), (32, [4, 8, 16, 32])])
@torch.no_grad()
def test_output_stride_keeps_all_four_levels(stride, strides):
    backbone = build("resnet18", output_stride=stride).eval()
    assert backbone.strides == strides
    sizes = [tuple(level.shape[-2:]) for level in backbone(images(1, (50, 70)))]
    assert sizes == [(math.ceil(50 / s), math.ceil(70 / s)) for s in strides]


def test_the_published_resnet_is_dilated_by_1_1_2_4():
    """The first block of a stage keeps the dilation of the one before, as in the published recipe."""
    network = build("resnet101c", output_stride=8).network
    dilations = [[block.conv2.dilation[0] for block in getattr(network, f"layer{i}")] for i in (1, 2, 3, 4)]
    assert [stage[-1] for stage in dilations] == [1, 1, 2, 4]
    assert [stage[0] for stage in dilations] == [1, 1, 1, 2]
    assert [module.kernel_size for module in network.conv1 if hasattr(module, "kernel_size")] == [(3, 3)] * 3


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "hrnet_w18_small", "test_vit"])
def test_a_network_without_dilation_says_so(name):
    with pytest.raises(ValueError, match=rf"name={name} does not take backbone\.output_stride: .*output_stride=null"):
        build(name, output_stride=8)


def test_an_impossible_output_stride_is_named():
    with pytest.raises(ValueError, match=r"backbone\.output_stride=7: expected 8, 16, 32"):
        build(output_stride=7)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit"])
@torch.no_grad()
def test_paths_are_dropped_in_training_only(name):
    plain, dropping = build(name), build(name, drop_path=0.9)
    dropping.load_state_dict(plain.state_dict())
    torch.manual_seed(0)
    for kept, dropped in zip(plain.eval()(images()), dropping.eval()(images()), strict=True):
        torch.testing.assert_close(kept, dropped)
    first, second = (dropping.train()(images())[-1] for _ in range(2))
    assert not torch.allclose(first, second)


def test_a_network_that_drops_no_paths_says_so():
    with pytest.raises(ValueError, match=r"name=hrnet_w18_small does not take backbone\.drop_path: .*drop_path=0"):
        build("hrnet_w18_small", drop_path=0.1)


def test_a_rate_of_one_is_refused():
    with pytest.raises(ValueError, match=r"backbone\.drop_path=1\.0 must lie in \[0, 1\)"):
        build(drop_path=1.0)


def test_frozen_stages_keep_weights_and_batch_statistics_whatever_the_mode():
    backbone = build(frozen_stages=2).train()
    before = copy.deepcopy(backbone.state_dict())
    loss(backbone).backward()
    with torch.no_grad():
        for weight in backbone.parameters():
            weight -= 0 if weight.grad is None else 0.1 * weight.grad
    frozen = ("network.conv1", "network.bn1", "network.layer1", "network.layer2")
    for name, after in backbone.state_dict().items():
        if name.startswith(frozen):
            assert after.equal(before[name]), name
        elif name.endswith(("running_mean", "conv1.weight", "num_batches_tracked")):
            assert not after.equal(before[name]), name


def test_frozen_stages_drop_no_paths():
    backbone = build("test_vit", frozen_stages=4, drop_path=0.5).train()
    assert all(not weight.requires_grad for weight in backbone.network.parameters())
    assert all(weight.requires_grad for weight in backbone.pyramid.parameters())
    assert backbone.pyramid.training
    first, second = (backbone(images())[-1] for _ in range(2))
    assert first.equal(second)


@pytest.mark.parametrize("frozen", [0, 1, 3])
def test_frozen_stages_are_the_first_ones(frozen):
    backbone = build("resnet18", frozen_stages=frozen)
    trained = {name.split(".")[0] for name, weight in backbone.network.named_parameters() if weight.requires_grad}
    assert trained == {f"layer{stage}" for stage in range(frozen + 1, 5)} | (set() if frozen else {"conv1", "bn1"})


def test_a_quarter_of_a_plain_transformers_blocks_is_a_stage():
    network = build("eva02_tiny_patch14_224").network
    stages = stage_depths(network)
    assert [stages[f"blocks.{block}.norm1.weight"] for block in range(12)] == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert stages["patch_embed.proj.weight"] == 0


def test_five_stages_are_refused():
    with pytest.raises(ValueError, match=r"backbone\.frozen_stages=5: expected 0 \(nothing\) to 4"):
        build(frozen_stages=5)


def test_a_network_that_says_nothing_of_its_blocks_is_counted_part_by_part():
    parts = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2))
    assert block_depths(parts) == {"0.weight": 0, "0.bias": 0, "2.weight": 1, "2.bias": 1}


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "pvt_v2_b0", "regnety_002", "test_vit"])
def test_checkpointing_computes_blocks_twice_and_gives_equal_gradients(name):
    if name == "test_resnet" and Version(timm.__version__) < Version("1.0.31"):
        pytest.skip("this timm does not recompute a ResNet's activations, and says so: the test below")
    plain, again = build(name), build(name, checkpointing=True)
    again.load_state_dict(plain.state_dict())
    runs = []
    for backbone in (plain, again):
        backbone.eval()  # so that batch statistics play no part
        block = max(backbone.network.named_modules(), key=lambda item: item[0].count("."))[1]
        calls: list[bool] = []
        block.register_forward_hook(lambda *_, calls=calls: calls.append(True))
        loss(backbone).backward()
        runs.append(len(calls))
    assert runs == [1, 2]
    for (label, expected), weight in zip(plain.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, expected.grad, msg=lambda text, label=label: f"{label}: {text}")


def test_a_network_that_keeps_its_activations_says_so():
    with pytest.raises(ValueError, match=r"name=hrnet_w18_small does not take backbone\.checkpointing: .*=false"):
        build("hrnet_w18_small", checkpointing=True)


def test_an_older_timm_that_ignores_the_switch_is_named(monkeypatch):
    monkeypatch.setattr(timm_models.timm, "__version__", "1.0.30")
    with pytest.raises(ValueError, match=r"checkpointing=true needs timm>=1\.0\.31 for test_resnet, found 1\.0\.30"):
        build(checkpointing=True)


def test_a_copy_keeps_its_own_stages_frozen():
    """Averages of weights are copies."""
    twin = copy.deepcopy(build(frozen_stages=1)).train()
    assert not twin.network.layer1.training
    assert twin.network.layer2.training
