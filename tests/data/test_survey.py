"""A survey goes on where a training stops: every fault of a split at once, and counts that a plain loop confirms."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from drawn_layouts import draw_image, save
from gss.data.folder import FolderPairs
from gss.data.pairs import REMEDIES, Kind, NotThere, Pair
from gss.data.survey import survey_split
from gss.labels import LabelSpace


def test_counts_are_those_of_a_loop_over_the_files(write_split, label_space, tmp_path):
    source = write_split(count=5)
    draw_image(tmp_path / "images" / "train" / "wide.png", (8, 64))
    save(tmp_path / "labels" / "train" / "wide.png", np.zeros((8, 64), np.uint8))
    found = survey_split(source, label_space, "train")
    pixels = Counter(
        int(value) for path in (tmp_path / "labels").rglob("*.png") for value in np.asarray(Image.open(path)).ravel()
    )
    assert {raw: count for (raw, _), count in found.pixels.items()} == pixels
    shown = {name: pixels[train] for train, name in enumerate(label_space.names)}
    assert found.class_shares == pytest.approx({name: n / sum(shown.values()) for name, n in shown.items()})
    assert found.share(255) == pytest.approx(pixels[255] / pixels.total())
    assert found.sizes == {(24, 32): 5, (8, 64): 1}
    assert (found.images.total(), found.labels.total(), found.faults) == (6, 6, [])


def test_every_fault_of_a_split_is_found_at_once(write_split, label_space, tmp_path):
    source = write_split(count=8)
    images, labels = tmp_path / "images" / "train", tmp_path / "labels" / "train"
    (images / "0.png").write_bytes((images / "0.png").read_bytes()[:-40])  # truncated
    (labels / "1.png").write_bytes(b"")
    save(labels / "2.png", np.full((24, 32), 9, np.uint8))  # undeclared
    save(labels / "3.png", np.zeros((24, 31), np.uint8))  # another size
    (labels / "4.png").unlink()
    (images / "5.png").unlink()
    outside = tmp_path.parent / f"{tmp_path.name}_outside.png"
    draw_image(outside, (24, 32))
    (images / "6.png").unlink()
    (images / "6.png").symlink_to(outside)
    found = survey_split(source, label_space, "train")
    kinds = {fault.kind: fault.path.name for fault in found.faults}
    assert kinds == {
        Kind.IMAGE: "0.png",
        Kind.LABELS: "1.png",
        Kind.IDS: "2.png",
        Kind.SIZE: "3.png",
        Kind.NO_LABELS: "4.png",
        Kind.NO_IMAGE: "5.png",
        Kind.OUTSIDE: "6.png",
    }
    assert len(found.faults) == len(kinds)
    assert set(kinds) <= set(REMEDIES)
    assert found.ids(None) == [9]
    with pytest.raises(ValueError, match=r"1 of 7 images have no labels"):  # a training stops at the first
        source()


def test_withheld_labels_are_no_fault_and_conditions_are_counted(tmp_path):
    for number in range(3):
        draw_image(tmp_path / f"{number}.png")
    conditions = ("fog", "fog", "night")
    pairs = [Pair(tmp_path / f"{n}.png", None, str(n), condition) for n, condition in enumerate(conditions)]
    found = survey_split(lambda: pairs, LabelSpace.from_names(["a", "b"]), "test")
    assert (found.images, found.labels.total(), found.faults) == ({"fog": 2, "night": 1}, 0, [])
    assert found.class_shares == {"a": 0.0, "b": 0.0}


def test_a_file_is_counted_once_by_its_own_table(tmp_path):
    draw_image(tmp_path / "a.png")
    save(tmp_path / "a_ids.png", np.full((16, 32), 7, np.uint8))
    own = LabelSpace(("road", "car"), ((0, 0, 0), (9, 9, 9)), {7: 1, 255: 255})
    pair = Pair(tmp_path / "a.png", tmp_path / "a_ids.png", "a", label_space=own)
    found = survey_split(lambda: [pair] * 3, LabelSpace.from_names(["road", "car"]), "train")
    assert found.images.total() == 1
    assert found.class_shares == {"road": 0.0, "car": 1.0}
    assert found.faults == []


def test_lines_of_a_list_are_refused_one_by_one(write_split, label_space, tmp_path):
    write_split(count=3)
    (tmp_path / "train.txt").write_text("0.png\nmissing.png\n../../etc/passwd\n2.png\n")
    source = FolderPairs(tmp_path, "images/train", "labels/train", file_list="train.txt")
    found = survey_split(source, label_space, "train")
    assert found.images.total() == 2
    lines = [fault for fault in found.faults if fault.kind is Kind.LINE]
    assert ["line 2" in lines[0].message, "line 3" in lines[1].message] == [True, True]


def test_a_split_that_is_not_there_is_said_by_itself(tmp_path, label_space):
    with pytest.raises(NotThere, match="does not exist"):
        survey_split(FolderPairs(tmp_path, "images/val", "labels/val"), label_space, "val")
