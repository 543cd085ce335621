from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from drawn_layouts import draw_ade20k
from gss.data.ade20k import ADE20KPairs, ade20k_labels
from gss.data.reading import read_labels

# typed from objectInfo150.txt, independently of the module
SOME = {1: "wall", 2: "building", 20: "chair", 64: "blind", 131: "screen", 150: "flag"}


def test_ids_1_to_150_are_classes_and_0_is_ignored(tmp_path):
    ids = np.arange(151, dtype=np.uint8)[None]
    Image.fromarray(ids).save(tmp_path / "a.png")
    assert read_labels(tmp_path / "a.png", ade20k_labels())[0].tolist() == [255, *range(150)]


def test_an_id_that_ade20k_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"holds the ids 151, .*known: 0-150\)"):
        ade20k_labels().to_train_ids(np.array([[151]], np.uint8), "a.png")


def test_names_stand_at_their_ids():
    space = ade20k_labels()
    assert space.num_classes == 150
    assert {file_id: space.names[file_id - 1] for file_id in SOME} == SOME
    assert len(set(space.colours)) == 150


def test_pairs_follow_the_official_names(tmp_path):
    base = tmp_path / "ADEChallengeData2016"
    for kind, ending in (("images", "jpg"), ("annotations", "png")):
        (base / kind / "validation").mkdir(parents=True)
        for number in (2, 1):
            (base / kind / "validation" / f"ADE_val_{number:08d}.{ending}").write_bytes(b"")
    pairs = ADE20KPairs(tmp_path, "val")()
    assert [pair.name for pair in pairs] == ["ADE_val_00000001", "ADE_val_00000002"]
    assert pairs[0].labels == base / "annotations/validation/ADE_val_00000001.png"


def test_a_missing_data_set_says_where_to_get_it(tmp_path):
    with pytest.raises(ValueError, match=r"ADEChallengeData2016/images/training.*data\.root.*sceneparsing\.csail"):
        ADE20KPairs(tmp_path, "train")()


@pytest.mark.parametrize("beside", [True, False])
def test_the_test_split_has_images_and_no_labels(tmp_path, beside):
    draw_ade20k(tmp_path, {"val": 1, "test": 2}, beside)
    pairs = ADE20KPairs(tmp_path, "test")()
    assert [(pair.name, pair.labels) for pair in pairs] == [("ADE_test_00000001", None), ("ADE_test_00000002", None)]


def test_a_missing_test_split_says_which_archive_has_it(tmp_path):
    draw_ade20k(tmp_path, {"val": 1})
    with pytest.raises(ValueError, match=r"release_test/testing' does not exist.*get release_test\.zip") as caught:
        ADE20KPairs(tmp_path, "test")()
    assert "with annotations" not in str(caught.value)


def test_a_split_that_ade20k_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"splits train, val, test, got 'testing'; mend data\.splits"):
        ADE20KPairs("anywhere", "testing")
