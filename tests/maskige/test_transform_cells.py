from __future__ import annotations

import numpy as np
import pytest
import torch

from gss.maskige.transform import enlarge_labels, pad_labels, reduce_class_probs


@pytest.mark.parametrize(("size", "padded"), [((5, 8), (8, 8)), ((8, 9), (8, 12)), ((4, 4), (4, 4)), ((1, 1), (4, 4))])
def test_padding_adds_ignored_pixels_to_the_next_whole_cell(size, padded):
    labels = torch.randint(7, (2, *size))
    expected = np.full((2, *padded), 255)
    expected[:, : size[0], : size[1]] = labels
    assert pad_labels(labels, 4).numpy().tolist() == expected.tolist()


def test_enlarging_repeats_every_pixel():
    labels = torch.randint(7, (2, 3, 5))
    assert enlarge_labels(labels, 3).numpy().tolist() == np.kron(labels, np.ones((3, 3), np.int64)).tolist()


def test_reducing_takes_the_mean_of_each_pixels_share():
    class_probs = torch.rand(2, 4, 6, 8).softmax(1)
    expected = class_probs.numpy().reshape(2, 4, 3, 2, 4, 2).mean((3, 5))
    reduced = reduce_class_probs(class_probs, 2)
    np.testing.assert_allclose(reduced.numpy(), expected, rtol=1e-6)
    torch.testing.assert_close(reduced.sum(1), torch.ones(2, 3, 4))
    assert reduce_class_probs(class_probs, 1) is class_probs
