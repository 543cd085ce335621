from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from gss.labels import IGNORE, LabelSpace, check_same_classes, default_colours

SPACE = LabelSpace(
    names=("road", "car"),
    colours=((128, 64, 128), (0, 0, 142)),
    raw_to_train={7: 0, 26: 1, 0: IGNORE, 255: IGNORE},
)


def test_ids_are_translated_as_a_loop_over_the_pixels_would():
    raw = np.random.default_rng(0).choice(np.array([7, 26, 0, 255], np.uint8), (13, 17))
    train_ids = SPACE.to_train_ids(raw, "a.png")
    assert train_ids.dtype == np.uint8
    assert train_ids.tolist() == [[{7: 0, 26: 1, 0: 255, 255: 255}[value] for value in row] for row in raw.tolist()]


def test_an_undeclared_id_is_an_error_that_names_file_and_ids():
    raw = np.array([[7, 40, 41, 42, 99]], np.uint8)
    with pytest.raises(ValueError, match=r"'street\.png' holds the ids 40-42, 99.*known: 0, 7, 26, 255"):
        SPACE.to_train_ids(raw, "street.png")


def test_names_alone_give_identity_and_ignored_ids():
    space = LabelSpace.from_names(["sky", "road", "tree"], ignore_ids=[3])
    raw = np.array([[0, 1, 2, 3, 255]], np.uint8)
    assert space.to_train_ids(raw, "a.png").tolist() == [[0, 1, 2, IGNORE, IGNORE]]
    assert space.num_classes == 3


@pytest.mark.parametrize("num_classes", [1, 2, 19, 150])
def test_default_colours_are_distinct(num_classes):
    colours = default_colours(num_classes)
    assert len(set(colours)) == num_classes
    assert all(0 <= channel <= 255 for colour in colours for channel in colour)


def test_a_label_space_survives_json_and_pickle():
    SPACE.to_train_ids(np.zeros((1, 1), np.uint8), "a.png")  # fills the cached table
    for copy in (
        LabelSpace.from_dict(json.loads(json.dumps(SPACE.to_dict()))),
        pickle.loads(pickle.dumps(SPACE)),
    ):
        assert copy == SPACE
        assert hash(copy) == hash(SPACE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": []}, r"1 to 253 names, got 0; mend data\.label_space\.names"),
        ({"names": "road"}, r"must be a list, got the string 'road'"),
        ({"names": ["road", "car", "road"]}, r"'road' occurs more than once"),
        ({"names": ["road", "car"], "ignore_ids": [1]}, r"id 1 is ignored but also stands for class 'car'"),
        ({"names": ["road", "car"], "ignore_ids": [-1]}, r"file ids lie in 0 to 255, got -1"),
        (
            {"names": ["road", "car"], "colours": [[0, 0, 0]]},
            r"2 classes need as many display colours, got 1",
        ),
        ({"names": ["road"], "colours": [[0, 0]]}, r"needs 3 numbers, got \[0, 0\]"),
        ({"names": ["road"], "colours": [[0, 0, 256]]}, r"lie in 0 to 255, got \(0, 0, 256\)"),
    ],
)
def test_a_wrong_class_list_is_one_sentence_with_the_key(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        LabelSpace.from_names(**arguments)
    assert "data.label_space." in str(caught.value)


def test_a_table_that_leaves_the_classes_is_refused():
    with pytest.raises(ValueError, match="file id 9 maps to 2, but train ids are 0 to 1 or 255"):
        LabelSpace(SPACE.names, SPACE.colours, {9: 2})


@pytest.mark.parametrize(
    ("names", "difference"),
    [
        (["road", "car", "sky"], "knows 3 .* has 3, .*class 1 is 'sky' in the former and 'car' in the latter"),
        (["road", "sky"], "knows 3 .* has 2, .*class 2 is 'car' in the former and missing in the latter"),
        (["road", "sky", "car", "bus"], "knows 3 .* has 4, .*class 3 is missing in the former and 'bus' in the latter"),
    ],
)
def test_other_classes_are_refused_with_the_first_that_differs(names, difference):
    known = ["road", "sky", "car"]
    check_same_classes("the checkpoint", known, "data=folder", tuple(known))
    with pytest.raises(ValueError, match=difference):
        check_same_classes("the checkpoint", known, "data=folder", names)
