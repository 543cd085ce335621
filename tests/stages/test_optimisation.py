from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from gss.maskige.palette import max_distance_palette
from gss.maskige.transform import MaskigeTransform
from gss.networks.backbone import TimmBackbone
from gss.stages.optimisation import Optimisation, parameter_groups


def rates(max_steps, **settings):
    """The learning rate of each step, and the one after the last."""
    optimisation = Optimisation(partial(torch.optim.SGD, lr=2.0), max_steps, **settings)
    optimizer, schedule = optimisation.build(nn.Linear(1, 1))
    found = []
    for _ in range(max_steps + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step(), schedule.step()
    return found


def test_the_rate_rises_linearly_and_then_falls_as_a_power_to_zero():
    rise = [2.0 * (1 / 4 + 3 / 4 * step / 4) for step in range(4)]
    fall = [2.0 * (1 - step / 6) ** 0.9 for step in range(7)]
    assert rates(10, warmup_steps=4, power=0.9)[:4] == pytest.approx(rise)
    assert rates(10, warmup_steps=4, power=0.9)[4:] == pytest.approx(fall)


def test_a_short_training_spends_at_most_half_on_the_rise():
    found = rates(10, warmup_steps=100)
    assert found.index(max(found)) in (4, 5)
    assert found[-1] == 0


@pytest.mark.parametrize("max_steps", [1, 2, 3])
def test_the_shortest_trainings_have_a_schedule_too(max_steps):
    found = rates(max_steps, warmup_steps=100)
    assert all(rate > 0 for rate in found[:-1])


def test_without_a_rise_the_fall_begins_at_once():
    assert rates(4, warmup_steps=0, power=1.0) == pytest.approx([2.0, 1.5, 1.0, 0.5, 0.0])


class Small(nn.Module):
    """Every kind of parameter, one of them frozen."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
        self.transform = MaskigeTransform(max_distance_palette(3), learned=True)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def test_only_weights_decay_and_nothing_frozen_is_optimised():
    module = Small()
    decayed, kept = parameter_groups(module)
    assert [id(p) for p in decayed["params"]] == [id(module.conv.weight)]
    tables = (module.relative_position_bias_table, module.transform.colours)
    assert {id(p) for p in kept["params"]} == {id(p) for p in (module.conv.bias, *module.norm.parameters(), *tables)}
    assert kept["weight_decay"] == 0
    assert "weight_decay" not in decayed


class Layers(nn.Module):
    """Three depths and a pyramid of no depth, as a backbone tells them."""

    def __init__(self):
        super().__init__()
        self.stem, self.block, self.last = nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 3)
        self.pos_embed = nn.Parameter(torch.zeros(1, 4, 3))
        self.pyramid = nn.Linear(3, 3)

    def layer_depths(self):
        depths = {"pos_embed": 0}
        return depths | {f"{n}.{w}": d for d, n in enumerate(("stem", "block", "last")) for w in ("weight", "bias")}


class Network(nn.Module):
    """A backbone and a head, nested as in a stage."""

    def __init__(self):
        super().__init__()
        self.network = nn.ModuleDict({"backbone": Layers(), "head": nn.Linear(3, 4)})


def rates_by_name(module, optimizer):
    """The present learning rate and the weight decay of every parameter."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return {
        names[id(p)].removeprefix("network."): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }


def test_the_rate_of_a_backbone_falls_with_its_depth_at_every_step():
    module, (base, decay, factor) = Network(), (2.0, 0.5, 0.1)
    optimisation = Optimisation(
        partial(torch.optim.AdamW, lr=base, weight_decay=0.3),
        max_steps=10,
        warmup_steps=4,
        warmup_ratio=1e-6,
        layer_decay=decay,
        backbone_lr=factor,
    )
    optimizer, schedule = optimisation.build(module)
    shares = {"stem": factor * decay**2, "pos_embed": factor * decay**2, "block": factor * decay, "last": factor}
    for step in range(11):
        course = 1e-6 + (1 - 1e-6) * step / 4 if step < 4 else 1 - (step - 4) / 6
        for name, (rate, _) in rates_by_name(module, optimizer).items():
            share = next((share for part, share in shares.items() if f"backbone.{part}" in name), 1.0)
            assert rate == pytest.approx(base * share * course, rel=1e-6, abs=1e-12), (name, step)
        optimizer.step(), schedule.step()


def test_every_parameter_is_in_one_group_and_only_weights_decay():
    module = Network()
    groups = parameter_groups(module, layer_decay=0.5)
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in module.parameters())
    optimizer = torch.optim.AdamW(groups, weight_decay=0.3)
    decayed = {name for name, (_, weight_decay) in rates_by_name(module, optimizer).items() if weight_decay}
    assert decayed == {
        "head.weight",
        "backbone.stem.weight",
        "backbone.block.weight",
        "backbone.last.weight",
        "backbone.pyramid.weight",
    }


@pytest.mark.parametrize("name", ["relative_position_bias_table", "pos_embed", "cls_token", "reg_token", "mask_gamma"])
def test_tables_and_added_tokens_of_transformers_do_not_decay(name):
    module = nn.Module()
    module.register_parameter(name, nn.Parameter(torch.zeros(1, 3) if name != "mask_gamma" else torch.zeros(3)))
    decayed, kept = parameter_groups(module)
    assert (len(decayed["params"]), len(kept["params"])) == (0, 1)


def test_one_rate_for_all_needs_no_depths():
    groups = parameter_groups(Network())
    assert [group["lr_factor"] for group in groups] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("swin_tiny_patch4_window7_224", {"relative_position_bias_table"}),
        ("vit_small_patch14_dinov2", {"cls_token", "pos_embed"}),
        ("vit_small_patch16_dinov3", {"cls_token", "reg_token"}),
        ("convnext_tiny", set()),
    ],
)
def test_real_backbones_lend_their_depths_and_tables(name, kept):
    with torch.device("meta"):
        module = nn.ModuleDict({"backbone": TimmBackbone(name)})
    names = {id(parameter): full for full, parameter in module.named_parameters()}
    groups = parameter_groups(module, layer_decay=0.5)
    rates = {names[id(p)]: group["lr_factor"] for group in groups for p in group["params"]}
    assert rates.keys() == dict(module.named_parameters()).keys()
    depths = module["backbone"].layer_depths()
    assert {full: 0.5 ** (max(depths.values()) - depth) for full, depth in depths.items()} == {
        full.removeprefix("backbone."): rate for full, rate in rates.items() if "pyramid" not in full
    }
    assert {rate for full, rate in rates.items() if "pyramid" in full} <= {1.0}
    tables = {names[id(p)].rpartition(".")[2] for group in groups[1::2] for p in group["params"] if p.ndim > 1}
    assert tables == kept


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"layer_decay": 0.0}, r"optim\.layer_decay must lie in \(0, 1\], got 0\.0"),
        ({"layer_decay": 1.1}, r"optim\.layer_decay must lie in \(0, 1\], got 1\.1"),
        ({"warmup_ratio": 0.0}, r"optim\.warmup_ratio must lie in \(0, 1\], got 0\.0"),
        ({"backbone_lr": 0.0}, r"optim\.backbone_lr must be above 0, got 0\.0: backbone\.frozen_stages"),
    ],
)
def test_values_out_of_range_are_named(setting, said):
    with pytest.raises(ValueError, match=said):
        Optimisation(torch.optim.SGD, 10, **setting)
