from __future__ import annotations

import numpy as np
import pytest

from gss.data.cityscapes import CityscapesPairs, cityscapes_labels
from gss.data.reading import read_image, read_labels
from gss.data.scenes import draw_scene
from gss.data.synthetic import SyntheticPairs

SIZE = (32, 64)


def state(root):
    return {path.relative_to(root): path.stat().st_mtime_ns for path in sorted(root.rglob("*.png"))}


def test_scenes_lie_in_the_cityscapes_layout_and_hold_what_was_drawn(tmp_path):
    pairs = SyntheticPairs(tmp_path, "train", 3, SIZE, seed=0)()
    assert pairs == CityscapesPairs(tmp_path, "train")()
    assert len(pairs) == 3
    image, ids = draw_scene(0, 1, SIZE)
    np.testing.assert_array_equal(read_image(pairs[1].image), image)
    expected = cityscapes_labels().to_train_ids(ids, "drawn")
    np.testing.assert_array_equal(read_labels(pairs[1].labels, cityscapes_labels()), expected)


def test_scenes_are_drawn_once(tmp_path):
    source = SyntheticPairs(tmp_path, "val", 2, SIZE)
    source()
    before = state(tmp_path)
    assert len(before) == 4
    source()
    assert state(tmp_path) == before


def test_other_settings_replace_the_scenes(tmp_path):
    SyntheticPairs(tmp_path, "val", 4, SIZE, seed=0)()
    SyntheticPairs(tmp_path, "train", 1, SIZE, seed=0)()
    pairs = SyntheticPairs(tmp_path, "val", 2, SIZE, seed=1)()
    assert len(pairs) == 2
    np.testing.assert_array_equal(read_image(pairs[0].image), draw_scene(3 * 1 + 1, 0, SIZE)[0])
    assert len(CityscapesPairs(tmp_path, "train")()) == 1


@pytest.mark.parametrize("damage", ["note", "image"])
def test_an_interrupted_drawing_is_repeated(tmp_path, damage):
    source = SyntheticPairs(tmp_path, "val", 3, SIZE)
    pairs = source()
    content = [pair.image.read_bytes() for pair in pairs]
    (tmp_path / "val.json" if damage == "note" else pairs[1].image).unlink()
    pairs[2].labels.unlink()
    assert [pair.image.read_bytes() for pair in source()] == content
    assert pairs[2].labels.is_file()


def test_splits_share_no_scene(street_scenes):
    contents = [path.read_bytes() for path in street_scenes.rglob("*_leftImg8bit.png")]
    assert len(contents) == len(set(contents)) == 11


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("training", 2, SIZE), "splits train, val, test, got 'training'"),
        (("val", 0, SIZE), r"num_scenes must be at least 1, got 0; mend data\.splits\.val\.num_scenes"),
        (("val", 2, (8, 64)), r"at least 16 pixels, got \(8, 64\)"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_drawn(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        SyntheticPairs(tmp_path, *arguments)
    assert not list(tmp_path.iterdir())
