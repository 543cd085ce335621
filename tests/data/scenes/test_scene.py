from __future__ import annotations

import numpy as np
import pytest

from gss.data.cityscapes import LABEL_IDS, cityscapes_labels
from gss.data.scenes import draw_scene


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(0, number, (64, 128)) for number in range(24)]


def test_a_scene_is_a_function_of_seed_and_number(scenes):
    again = draw_scene(0, 5, (64, 128))
    for drawn, repeated in zip(scenes[5], again, strict=True):
        np.testing.assert_array_equal(drawn, repeated)
    assert (draw_scene(1, 5, (64, 128))[1] != scenes[5][1]).any()
    assert (scenes[6][1] != scenes[5][1]).any()


def test_images_and_ids_have_the_promised_form(scenes):
    for image, ids in scenes:
        assert (image.shape, image.dtype) == ((64, 128, 3), np.uint8)
        assert (ids.shape, ids.dtype) == ((64, 128), np.uint8)
        assert set(np.unique(ids)) <= {1, 4, *LABEL_IDS.values()}  # 1 ego vehicle, 4 static


def test_most_classes_occur_and_some_pixels_are_unlabelled(scenes):
    train_ids = np.stack([cityscapes_labels().to_train_ids(ids, "scene") for _, ids in scenes])
    assert len(np.unique(train_ids)) - 1 >= 15
    assert 0.02 < (train_ids == 255).mean() < 0.15


def test_the_sky_is_above_the_road(scenes):
    rows = np.arange(64)[:, None] * np.ones((1, 128))
    for _, ids in scenes:
        assert rows[ids == LABEL_IDS["sky"]].mean() < rows[ids == LABEL_IDS["road"]].mean() - 20


def test_colour_alone_does_not_give_the_class(scenes):
    """The best guess from a pixel's colour, learnt on half of the scenes, often fails on the other half."""
    codes = [(image // 32).astype(int) @ (64, 8, 1) for image, _ in scenes]
    votes = np.zeros((512, 256), int)
    for code, (_, ids) in zip(codes[::2], scenes[::2], strict=True):
        np.add.at(votes, (code.ravel(), ids.ravel()), 1)
    hits = [(votes.argmax(1)[code] == ids).mean() for code, (_, ids) in zip(codes[1::2], scenes[1::2], strict=True)]
    assert 0.3 < np.mean(hits) < 0.8
