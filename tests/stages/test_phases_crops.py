from __future__ import annotations

import pytest
import torch

from gss.stages.phases import BoundaryCrops


def draw(labels, number=400, side=16, seed=0):
    return BoundaryCrops(number, side)(labels, torch.Generator().manual_seed(seed))


def test_crops_are_cut_from_the_label_maps(draw_labels):
    labels = draw_labels(2, (32, 48), num_classes=5, ignored=True)
    cut = {tuple(crop.flatten().tolist()) for crop in labels.unfold(1, 16, 1).unfold(2, 16, 1).flatten(0, 2)}
    crops = draw(labels, number=30)
    assert crops.shape == (30, 16, 16)
    assert {tuple(crop.flatten().tolist()) for crop in crops} <= cut


def test_crops_come_from_where_classes_meet_and_a_sixth_from_anywhere():
    labels = torch.zeros(2, 16, 160, dtype=torch.int64)
    labels[1, :, 150:] = 1  # the only boundary; crops start at even columns, at 73 in each map
    crossing = draw(labels, number=2000).float().std((1, 2)) > 0
    touching = {start: sum(start <= column < start + 16 for column in (149, 150)) for start in range(0, 145, 2)}
    both = [start for start, columns in touching.items() if columns == 2]
    expected = 5 / 6 * 2 * len(both) / sum(touching.values()) + 1 / 6 * len(both) / (2 * len(touching))
    assert crossing.float().mean().item() == pytest.approx(expected, abs=0.03)


def test_label_maps_without_a_boundary_give_crops_too():
    assert draw(torch.full((1, 16, 24), 255)).shape == (400, 16, 16)


def test_the_generator_decides(draw_labels):
    labels = draw_labels(2, (32, 48), num_classes=5)
    assert draw(labels, seed=1).equal(draw(labels, seed=1))
    assert not draw(labels, seed=1).equal(draw(labels, seed=2))


def test_a_window_that_does_not_fit_is_refused_with_the_keys():
    with pytest.raises(ValueError, match=r"stage\.windows\.side=16 is larger than label maps of 15x40.*data\.size"):
        draw(torch.zeros(1, 15, 40, dtype=torch.int64))


@pytest.mark.parametrize(("number", "side"), [(0, 8), (4, 0)])
def test_crops_without_a_size_are_refused(number, side):
    with pytest.raises(ValueError, match=rf"stage\.windows needs .* at least 1, got {number}, {side}"):
        BoundaryCrops(number, side)
