from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from drawn_layouts import draw_cityscapes
from gss.data.cityscapes import CityscapesPairs, cityscapes_labels, cityscapes_train_ids
from gss.data.reading import labels_of, read_pair_labels
from gss.data.synthetic import SyntheticPairs

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


def test_train_ids_have_the_same_classes_under_their_own_ids():
    assert cityscapes_train_ids().names == cityscapes_labels().names
    raw = np.array([[*range(19), 255]], np.uint8)
    assert cityscapes_train_ids().to_train_ids(raw, "a.png").tolist() == raw.tolist()
    with pytest.raises(ValueError, match="holds the ids 33"):
        cityscapes_train_ids().to_train_ids(np.array([[33]], np.uint8), "a.png")


@pytest.mark.parametrize(
    ("kinds", "labels", "read"),
    [
        (("labelIds",), "auto", "labelIds"),
        (("labelTrainIds",), "auto", "labelTrainIds"),
        (("labelIds", "labelTrainIds"), "auto", "labelIds"),
        (("labelIds", "labelTrainIds"), "labelTrainIds", "labelTrainIds"),
        (("labelIds", "labelTrainIds"), "labelIds", "labelIds"),
    ],
)
def test_whichever_label_files_are_read_give_the_same_labels(tmp_path, kinds, labels, read):
    draw_cityscapes(tmp_path / "read", {"val": 2}, kinds=kinds)
    draw_cityscapes(tmp_path / "both", {"val": 2}, kinds=("labelIds", "labelTrainIds"))
    pairs = CityscapesPairs(tmp_path / "read", "val", labels=labels)()
    assert all(pair.labels.name.endswith(f"_gtFine_{read}.png") for pair in pairs)
    for pair in pairs:
        path = tmp_path / "both" / pair.labels.relative_to(tmp_path / "read")
        expected = np.asarray(Image.open(str(path).replace("labelIds", "labelTrainIds")))
        np.testing.assert_array_equal(read_pair_labels(pair, cityscapes_labels()), expected)


def test_labels_that_are_asked_for_and_not_there_are_named(tmp_path):
    draw_cityscapes(tmp_path, {"val": 1})
    with pytest.raises(ValueError, match=r"1 of 1 .*expected the label file '.*_gtFine_labelTrainIds\.png'"):
        CityscapesPairs(tmp_path, "val", labels="labelTrainIds")()


def test_the_dummy_labels_of_the_test_split_are_withheld(tmp_path):
    draw_cityscapes(tmp_path, {"test": 2})
    pairs = CityscapesPairs(tmp_path, "test")()
    assert [pair.labels for pair in pairs] == [None, None]
    with pytest.raises(ValueError, match=r"labels of '.*berlin.*' are not published.*choose another split"):
        labels_of(pairs[0])
    assert CityscapesPairs(tmp_path, "test", labels="labelIds")()[0].labels.is_file()


def test_drawn_scenes_have_labels_in_their_test_split_too(tmp_path):
    pairs = SyntheticPairs(tmp_path, "test", 2, (32, 64))()
    assert [pair.labels.is_file() for pair in pairs] == [True, True]


def test_coarse_annotations_have_a_split_of_their_own(tmp_path):
    draw_cityscapes(tmp_path, {"train": 1, "train_extra": 2}, "gtCoarse")
    pairs = CityscapesPairs(tmp_path, "train_extra", annotations="gtCoarse")()
    assert [pair.labels.relative_to(tmp_path).as_posix() for pair in pairs] == [
        f"gtCoarse/train_extra/augsburg/augsburg_00000{number}_000019_gtCoarse_labelIds.png" for number in (0, 1)
    ]
    with pytest.raises(ValueError, match=r"leftImg8bit_trainextra\.zip and gtCoarse\.zip"):
        CityscapesPairs(tmp_path, "val", annotations="gtCoarse")()


@pytest.mark.parametrize(
    ("split", "settings", "message"),
    [
        (
            "train_extra",
            {},
            r"Cityscapes with gtFine has the splits train, val, test, got 'train_extra'; mend data\.splits",
        ),
        ("test", {"annotations": "gtCoarse"}, r"with gtCoarse has the splits train, train_extra, val, got 'test'"),
        (
            "val",
            {"annotations": "gtfine"},
            r"unknown data\.splits\.val\.annotations='gtfine': one of gtFine, gtCoarse",
        ),
        (
            "val",
            {"labels": "ids"},
            r"unknown data\.splits\.val\.labels='ids': one of labelIds, labelTrainIds, auto",
        ),
    ],
)
def test_words_that_cityscapes_does_not_have_are_refused(split, settings, message):
    with pytest.raises(ValueError, match=message):
        CityscapesPairs("anywhere", split, **settings)
