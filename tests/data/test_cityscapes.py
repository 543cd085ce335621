from __future__ import annotations

import numpy as np
import pytest

from gss.data.cityscapes import CityscapesPairs, cityscapes_labels

# typed from the table of the official scripts, independently of the module
TRAIN_IDS = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13,
    27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip


def test_label_ids_become_train_ids_and_all_others_are_ignored():
    raw = np.array([[*range(34), 255]], np.uint8)
    expected = [TRAIN_IDS.get(raw_id, 255) for raw_id in range(34)] + [255]
    assert cityscapes_labels().to_train_ids(raw, "a.png")[0].tolist() == expected


def test_an_id_that_cityscapes_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"holds the ids 40, .*known: 0-33, 255"):
        cityscapes_labels().to_train_ids(np.array([[40]], np.uint8), "a.png")


@pytest.mark.parametrize(
    ("train_id", "name", "colour"),
    [
        (0, "road", (128, 64, 128)),
        (8, "vegetation", (107, 142, 35)),
        (13, "car", (0, 0, 142)),
        (18, "bicycle", (119, 11, 32)),
    ],
)
def test_names_and_official_colours(train_id, name, colour):
    space = cityscapes_labels()
    assert (space.names[train_id], space.colours[train_id]) == (name, colour)


def test_pairs_follow_the_official_names(tmp_path):
    for city, number in (("zurich", 1), ("aachen", 2), ("aachen", 1)):
        for kind, ending in (
            ("leftImg8bit", "leftImg8bit.png"),
            ("gtFine", "gtFine_labelIds.png"),
            ("gtFine", "gtFine_color.png"),
        ):
            path = tmp_path / kind / "val" / city / f"{city}_{number:06d}_000019_{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    pairs = CityscapesPairs(tmp_path, "val")()
    assert [pair.name for pair in pairs] == [
        "aachen/aachen_000001_000019", "aachen/aachen_000002_000019", "zurich/zurich_000001_000019",
    ]  # fmt: skip
    assert pairs[0].labels == tmp_path / "gtFine/val/aachen/aachen_000001_000019_gtFine_labelIds.png"
    pairs[1].labels.unlink()
    with pytest.raises(
        ValueError, match=r"1 of 3 .*000002_000019_leftImg8bit\.png'.*000002_000019_gtFine_labelIds\.png'"
    ):
        CityscapesPairs(tmp_path, "val")()


def test_a_missing_data_set_says_where_to_get_it(tmp_path):
    with pytest.raises(ValueError, match=r"leftImg8bit/train.*gtFine/train.*data\.root.*cityscapes-dataset\.com"):
        CityscapesPairs(tmp_path / "none", "train")()
