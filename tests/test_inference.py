from __future__ import annotations

import pytest
import torch

from gss.inference import network_size, segment_photograph


@pytest.mark.parametrize(
    ("photograph", "expected"),
    [((192, 256), (192, 256)), ((384, 512), (192, 256)), ((96, 128), (192, 256)), ((256, 192), (256, 192))],
)
def test_a_photograph_of_the_trained_proportions_is_seen_at_the_trained_size(photograph, expected):
    assert network_size(*photograph, (192, 256), 8) == expected


@pytest.mark.parametrize("photograph", [(1, 1), (5000, 40), (40, 5000), (333, 517), (1080, 1920)])
@pytest.mark.parametrize("stride", [4, 8, 16])
def test_every_photograph_is_seen_in_whole_tokens_at_about_the_trained_area(photograph, stride):
    height, width = network_size(*photograph, (192, 256), stride)
    assert height % stride == width % stride == 0
    assert min(height, width) >= stride
    assert 0.5 < height * width / (192 * 256) < 2
    shown, true = width / height, photograph[1] / photograph[0]
    assert abs(width - height * true) <= stride * (1 + true) or 0.9 < shown / true < 1.1


def halves(shown):
    """Class 1 where the picture is brighter than a half, else class 0."""
    bright = (shown.mean(1) > 0.5).float()
    return torch.stack([1 - bright, bright], 1)


@pytest.mark.parametrize("size", [(64, 96), (51, 77), (300, 20)])
def test_probabilities_come_back_at_the_photographs_own_size(size):
    seen = []

    def watch(shown):
        seen.append(shown.shape)
        return halves(shown)

    image = torch.zeros(3, *size)
    image[:, size[0] // 2 :] = 1
    class_probs = segment_photograph(image, watch, trained=(64, 96), stride=8)
    assert seen == [(1, 3, *network_size(*size, (64, 96), 8))]
    assert class_probs.shape == (2, *size)
    torch.testing.assert_close(class_probs.sum(0), torch.ones(size))
    labels = class_probs.argmax(0)
    assert (labels[: size[0] // 4] == 0).all()
    assert (labels[-size[0] // 4 :] == 1).all()


def test_at_the_trained_size_nothing_is_resized():
    image = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(0))
    shown = []

    def keep(photograph):
        shown.append(photograph)
        return photograph.softmax(1)

    class_probs = segment_photograph(image, keep, trained=(64, 96), stride=8)
    torch.testing.assert_close(shown[0][0], image)
    torch.testing.assert_close(class_probs, image.softmax(0))
