from __future__ import annotations

import numpy as np
import pytest
import torch

from gss.objectives.losses import class_weights, token_weights

LABELS = torch.from_numpy(np.random.default_rng(0).choice([0, 1, 2, 255], (3, 8, 8), p=[0.7, 0.2, 0.05, 0.05]))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_weights_are_shares_to_the_power_scaled_to_a_mean_of_one(power):
    weights = class_weights(LABELS.split(2), num_classes=4, power=power)
    share = np.array([(k == LABELS).sum().item() for k in range(3)]) / (LABELS != 255).sum().item()
    raw = share**-power
    np.testing.assert_allclose(weights[:3], raw / (raw * share).sum(), rtol=1e-5)
    assert weights[3] == 1  # never seen
    assert weights[LABELS[LABELS != 255]].mean().item() == pytest.approx(1, rel=1e-5)


def test_a_token_counts_what_its_pixels_count_on_average():
    patches = torch.tensor([[[0, 0], [0, 0]], [[0, 1], [1, 1]]])
    codes = torch.nn.functional.one_hot(patches, 2).movedim(-1, 1).float()
    assert token_weights(codes, torch.tensor([1.0, 5.0])).tolist() == [1.0, 4.0]


@pytest.mark.parametrize("power", [-0.1, 1.5])
def test_a_power_outside_its_range_is_refused_with_the_key(power):
    with pytest.raises(ValueError, match=rf"stage\.class_balance must lie in \[0, 1\], got {power}"):
        class_weights([LABELS], 3, power)


def test_labels_that_say_nothing_are_refused():
    with pytest.raises(ValueError, match=r"no training pixel is labelled.*data\.label_space"):
        class_weights([torch.full((1, 2, 2), 255)], 3, 0.5)
