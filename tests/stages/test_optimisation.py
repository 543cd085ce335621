from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from gss.maskige.palette import max_distance_palette
from gss.maskige.transform import MaskigeTransform
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
