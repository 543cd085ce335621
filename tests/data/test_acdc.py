from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from drawn_layouts import RECORDINGS, TO_TRAIN, UNPACKINGS, draw_acdc
from gss.data.acdc import ACDCPairs
from gss.data.cityscapes import cityscapes_labels
from gss.data.reading import read_pair_labels

CONDITIONS = ["fog", "night", "rain", "snow"]


@pytest.mark.parametrize("unpacking", UNPACKINGS)
def test_every_unpacking_is_listed_condition_by_condition_without_references(tmp_path, unpacking):
    draw_acdc(tmp_path, {"train": 3, "val": 2}, unpacking)
    pairs = ACDCPairs(tmp_path, "train")()
    assert [pair.condition for pair in pairs] == [condition for condition in CONDITIONS for _ in range(3)]
    between = "" if unpacking == "flattened" else "GOPR0475/"
    assert [pair.name for pair in pairs[:2]] == [f"fog/{between}GOPR0475_frame_00000{number}" for number in (0, 1)]
    assert not [pair for pair in pairs if "_ref" in str(pair.image) + str(pair.labels)]
    assert len(ACDCPairs(tmp_path, "val")()) == 8
    ids = np.asarray(Image.open(pairs[0].labels))
    np.testing.assert_array_equal(read_pair_labels(pairs[0], cityscapes_labels()), TO_TRAIN[ids])


def test_a_reference_among_the_adverse_images_is_left_alone(tmp_path):
    draw_acdc(tmp_path, {"val": 1})
    split, recording = tmp_path / "rgb_anon/fog/val", RECORDINGS["fog"]
    shutil.copytree(tmp_path / "rgb_anon/fog/val_ref", split, dirs_exist_ok=True)
    assert len(list((split / recording).iterdir())) == 2
    assert [pair.image.name for pair in ACDCPairs(tmp_path, "val", ["fog"])()] == [
        f"{recording}_frame_000000_rgb_anon.png"
    ]


@pytest.mark.parametrize("unpacking", UNPACKINGS)
def test_references_are_listed_by_themselves_where_they_have_labels(tmp_path, unpacking):
    draw_acdc(tmp_path, {"val": 3}, unpacking)
    pairs = ACDCPairs(tmp_path, "val", reference=True)()
    numbers = [number for number in range(3) if not number % 2]
    assert [pair.image.name for pair in pairs] == [
        f"{RECORDINGS[condition]}_frame_{number:06d}_rgb_ref_anon.png" for condition in CONDITIONS for number in numbers
    ]
    assert all(pair.labels.name.endswith("_gt_ref_labelIds.png") and pair.labels.is_file() for pair in pairs)


def test_references_without_any_labels_are_said_to_have_none(tmp_path):
    draw_acdc(tmp_path, {"val": 1})
    shutil.rmtree(tmp_path / "gt/fog/val_ref")
    with pytest.raises(ValueError, match=r"no image with labels lies in '.*rgb_anon/fog/val_ref'"):
        ACDCPairs(tmp_path, "val", reference=True)()


def test_the_test_split_has_images_and_no_labels(tmp_path):
    draw_acdc(tmp_path, {"test": 2})
    pairs = ACDCPairs(tmp_path, "test")()
    assert [pair.labels for pair in pairs] == [None] * 8
    assert {pair.condition for pair in pairs} == set(CONDITIONS)


@pytest.mark.parametrize(("labels", "kind"), [("auto", "labelTrainIds"), ("labelTrainIds", "labelTrainIds")])
def test_train_ids_alone_are_read_by_their_own_table(tmp_path, labels, kind):
    draw_acdc(tmp_path, {"val": 1}, kinds=[kind])
    pair = ACDCPairs(tmp_path, "val", ["snow"], labels=labels)()[0]
    assert pair.labels.name.endswith(f"_gt_{kind}.png")
    stored = np.asarray(Image.open(pair.labels))
    np.testing.assert_array_equal(read_pair_labels(pair, cityscapes_labels()), stored)
    assert {0, 255} < set(stored.ravel().tolist())


def test_conditions_can_be_chosen_and_keep_their_order(tmp_path):
    draw_acdc(tmp_path, {"val": 1})
    chosen = ACDCPairs(tmp_path, "val", conditions=["snow", "fog"])()
    assert [pair.condition for pair in chosen] == ["fog", "snow"]
    assert [pair.condition for pair in ACDCPairs(tmp_path, "val", conditions="night")()] == ["night"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "val_ref"}, r"ACDC has the splits train, val, test, got 'val_ref'; mend data\.splits"),
        ({"conditions": ["fog", "sun"]}, r"some of fog, night, rain, snow, got \['fog', 'sun'\]; .*splits\.val\.cond"),
        ({"conditions": []}, r"conditions are some of fog, night, rain, snow, got \[\]"),
        (
            {"labels": "colour"},
            r"unknown data\.splits\.val\.labels='colour': one of labelIds, labelTrainIds, auto",
        ),
    ],
)
def test_words_that_acdc_does_not_have_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ACDCPairs("anywhere", **{"split": "val", **settings})


def test_a_missing_condition_is_named_with_the_ways_out(tmp_path):
    draw_acdc(tmp_path, {"val": 1})
    shutil.rmtree(tmp_path / "rgb_anon/rain")
    with pytest.raises(ValueError, match=r"rgb_anon/rain/val' does not exist.*acdc\.vision.*conditions=\[night\]"):
        ACDCPairs(tmp_path, "val")()


def test_an_image_without_labels_is_named(tmp_path):
    draw_acdc(tmp_path, {"val": 2})
    for path in (tmp_path / "gt/fog/val").rglob("*_frame_000001_gt_label*Ids.png"):
        path.unlink()
    with pytest.raises(ValueError, match=r"1 of 2 .*000001_rgb_anon\.png': expected .*000001_gt_labelIds\.png'"):
        ACDCPairs(tmp_path, "val")()
