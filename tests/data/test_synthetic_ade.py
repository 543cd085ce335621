"""Drawn mosaics: their class frequencies are those of the table, to the pixel where rounding allows."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gss.data.ade20k import CLASSES, ADE20KPairs
from gss.data.mosaics import draw_mosaic, plan_split
from gss.data.mosaics.kinds import found_indoors, found_outdoors, kinds
from gss.data.mosaics.plan import pixel_counts
from gss.data.mosaics.shapes import GAUGES
from gss.data.reading import read_image
from gss.data.synthetic_ade import SyntheticADEPairs

SIZE, NUM_SCENES = (96, 128), 60
# typed from objectInfo150.txt: share of all pixels by file id
PUBLISHED = {1: 0.1576, 2: 0.1072, 3: 0.0878, 21: 0.0098, 76: 0.0010, 104: 0.0006, 150: 0.0002}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A split, drawn and read back: (60, 96, 128) file ids, and its pairs."""
    pairs = SyntheticADEPairs(tmp_path_factory.mktemp("mosaics"), "train", NUM_SCENES, SIZE)()
    return np.stack([np.asarray(Image.open(pair.labels)) for pair in pairs]), pairs


def test_class_frequencies_are_the_published_ones(drawn):
    ids, _ = drawn
    found = np.bincount(ids.ravel(), minlength=151) / ids.size
    for file_id, share in PUBLISHED.items():
        assert found[file_id] == pytest.approx(share, rel=0.02), CLASSES[file_id - 1].name
    shares = np.array([row.share for row in CLASSES])
    # one pixel per scene in which a class occurs is the most that rounding can add or take
    np.testing.assert_allclose(found[1:], shares, atol=0.5 * NUM_SCENES / ids.size, rtol=0.02)
    assert found[0] == pytest.approx(1 - shares.sum(), rel=0.02)


def test_every_class_occurs_in_at_least_two_scenes(drawn):
    ids, _ = drawn
    scenes = [sum(file_id in scene for scene in ids) for file_id in range(1, 151)]
    assert min(scenes) >= 2


def test_regions_are_regions_and_thin_things_thin(drawn):
    """Borders are neither trivial nor noise: white noise would have 100 %, one straight line about 1 %."""
    ids, _ = drawn
    border = (ids[:, 1:, 1:] != ids[:, :-1, 1:]) | (ids[:, 1:, 1:] != ids[:, 1:, :-1])
    assert 0.03 < border.mean() < 0.2


def test_scenes_are_rooms_or_in_the_open(drawn):
    ids, _ = drawn
    floor, sky, sofa, road = 4, 3, 24, 7
    assert not any(
        {room, outside} <= set(scene.ravel()) for scene in ids for room in (floor, sofa) for outside in (sky, road)
    )


def test_they_lie_in_the_ade20k_layout_and_hold_what_was_drawn(drawn):
    ids, pairs = drawn
    root = pairs[0].image.parents[3]
    assert pairs == ADE20KPairs(root, "train")()
    assert pairs[4].labels == root / "ADEChallengeData2016/annotations/training/ADE_train_00000005.png"
    image, expected = draw_mosaic(0, 4, SIZE, plan_split(NUM_SCENES, 0)[4])
    np.testing.assert_array_equal(ids[4], expected)
    assert np.abs(read_image(pairs[4].image).astype(int) - image).mean() < 12  # JPEG, on grainy pictures


def test_plans_fill_each_scene_and_differ_by_seed():
    plan = plan_split(50, 3)
    np.testing.assert_allclose(plan.sum(1), 1)
    np.testing.assert_allclose(plan.mean(0)[1:], [row.share for row in CLASSES], rtol=1e-6)
    assert not np.array_equal(plan > 0, plan_split(50, 4) > 0)


def test_pixels_are_rounded_without_losing_any():
    areas = np.random.default_rng(0).dirichlet(np.full(151, 0.05), 20)
    areas[areas < 1e-4] = 0
    for row in areas / areas.sum(1, keepdims=True):
        counts = pixel_counts(row, 32 * 64)
        assert counts.sum() == 32 * 64
        assert ((counts > 0) == (row > 0)).all()
        assert np.abs(counts - row * 32 * 64).max() <= (row > 0).sum()


def test_every_class_has_a_kind_and_a_place():
    assert set(kinds()) == set(GAUGES)
    assert all(np.logical_or(found_indoors(), found_outdoors()))
