from __future__ import annotations

import numpy as np
import pytest
import torch

from gss.inference.policy import resized, scaled_size, short_side_size, trained_size


@pytest.mark.parametrize(
    ("image", "expected"),
    [((192, 256), (192, 256)), ((384, 512), (192, 256)), ((96, 128), (192, 256)), ((256, 192), (256, 192))],
)
def test_an_image_of_the_trained_proportions_is_seen_at_the_trained_size(image, expected):
    assert trained_size(*image, (192, 256), 8) == expected


def test_an_image_of_the_trained_size_is_seen_as_it_is_also_where_tokens_do_not_fit():
    assert trained_size(30, 61, (30, 61), 4) == (30, 61)
    assert trained_size(30, 61, (30, 61), 4, 2.0) == (60, 120)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.75])
@pytest.mark.parametrize("image", [(1, 1), (5000, 40), (40, 5000), (333, 517), (1080, 1920)])
@pytest.mark.parametrize("stride", [4, 8, 16])
def test_every_image_is_seen_in_whole_tokens_at_about_the_trained_area(image, stride, factor):
    height, width = trained_size(*image, (192, 256), stride, factor)
    assert height % stride == width % stride == 0
    assert min(height, width) >= stride
    assert 0.4 < height * width / (192 * 256 * factor**2) < 2
    shown, true = width / height, image[1] / image[0]
    assert abs(width - height * true) <= stride * (1 + true) or 0.9 < shown / true < 1.1


@pytest.mark.parametrize(
    ("image", "expected"),
    [  # what mmsegmentation's Resize makes of ADE20K at scale=(2048, 512) with keep_ratio
        ((683, 512), (683, 512)),
        ((256, 256), (512, 512)),
        ((1500, 2000), (512, 683)),
        ((512, 3000), (350, 2048)),
        ((300, 451), (512, 770)),
        ((1, 9000), (1, 2048)),
    ],
)
def test_the_short_side_has_its_length_unless_the_long_one_would_be_too_long(image, expected):
    assert short_side_size(*image, 512, 2048) == expected
    assert short_side_size(*image[::-1], 512, 2048) == expected[::-1]


def test_nothing_vanishes_when_scaled():
    assert scaled_size(1, 3, 0.5) == (1, 2)
    assert scaled_size(1, 1, 0.01) == (1, 1)
    assert scaled_size(333, 517, 1.0) == (333, 517)


@pytest.mark.parametrize("size", [(30, 40), (7, 90), (31, 1)])
def test_labels_take_the_nearest_pixel_and_no_new_value(size):
    labels = torch.randint(3, (2, 15, 20), generator=torch.Generator().manual_seed(0)) * 100
    found = resized(labels, size).numpy()
    for y, x in np.ndindex(size):
        row, column = int((y + 0.5) * 15 / size[0]), int((x + 0.5) * 20 / size[1])
        assert (found[:, y, x] == labels[:, row, column].numpy()).all()


def test_images_are_resized_smoothly_and_stay_in_range():
    image = (torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    assert resized(image, (40, 50)) is image
    half = resized(image, (20, 25))
    assert half.unique().numel() > 100
    assert 0 <= half.min() <= half.max() <= 1
    torch.testing.assert_close(half.mean(), image.mean(), atol=0.02, rtol=0)
