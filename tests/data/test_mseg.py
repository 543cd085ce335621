from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from drawn_layouts import MSEG, UNIVERSAL, draw_mseg, own_names
from gss.data.mseg import TEST_FOLDERS, TRAINING_FOLDERS, MSegPairs, MSegTestPairs
from gss.data.mseg_taxonomy import Taxonomy, members_of, merged_probs, own_labels, training_labels, universal_labels
from gss.data.reading import read_pair_labels
from gss.data.verify import verify_pairs

TRAINING = [f"{name}-relabeled" for name in TRAINING_FOLDERS]
REPEAT = {name: 1 + number for number, name in enumerate(TRAINING)}


@pytest.fixture
def root(tmp_path):
    draw_mseg(tmp_path)
    return tmp_path


@pytest.fixture
def taxonomy(root):
    return root / "mseg-api" / "mseg"


def test_the_universal_classes_stand_in_the_order_of_the_table_without_unlabeled(taxonomy):
    assert universal_labels(taxonomy).names == UNIVERSAL
    with pytest.raises(ValueError, match="holds the ids 0"):  # no file has universal ids
        universal_labels(taxonomy).to_train_ids(np.zeros((1, 1), np.uint8), "a.png")


def test_194_universal_classes_fit_with_colours_of_their_own(taxonomy):
    table = taxonomy / "class_remapping_files" / "MSeg_master.tsv"
    head, *_ = table.read_text().splitlines()
    empty = [""] * head.count("\t")
    names = [*(f"class {number}" for number in range(194)), "unlabeled"]
    rows = ["\t".join([*empty[:9], name, *empty[9:]]) for name in names]
    table.write_text("\n".join([head, *rows]))
    space = universal_labels(taxonomy)
    assert space.names == tuple(names[:194])
    assert len(set(space.colours)) == 194


def test_classes_of_a_training_set_become_the_universal_class_of_their_row(taxonomy):
    dataset = "ade20k-150"
    names = ["wall", "building", "house", "grandstand", "computer", "chair", "armchair", "signboard", "skyscraper"]
    rest = ["booth", "hovel", "tower", "sky", "road", "person", "bicycle"]
    (taxonomy / "dataset_lists" / dataset).mkdir()
    (taxonomy / "dataset_lists" / dataset / f"{dataset}_names.txt").write_text("\n".join([*names, *rest]) + "\n")
    train_ids = training_labels(taxonomy, dataset).to_train_ids(np.array([[*range(9), 255]], np.uint8), "a.png")[0]
    said = [UNIVERSAL[train] if train != 255 else "unlabeled" for train in train_ids]
    one_of = [
        "wall",
        "building",
        "building",
        "building",
        "unlabeled",
        "chair_other",
        "armchair",
        "unlabeled",
        "building",
    ]
    assert said == [*one_of, "unlabeled"]


def test_every_training_set_is_read_by_its_own_table(root, taxonomy):
    pairs = MSegPairs(root, taxonomy, "val", dict.fromkeys(TRAINING, 1))()
    assert [pair.condition for pair in pairs] == TRAINING
    for pair, dataset in zip(pairs, TRAINING, strict=True):
        own, stored = own_names(dataset), np.asarray(Image.open(pair.labels))
        read = read_pair_labels(pair, universal_labels(taxonomy))
        for raw in np.unique(stored):
            name = "unlabeled" if raw == 255 else own[raw]
            expected = UNIVERSAL.index(name) if name in UNIVERSAL else 255  # relabelled names are the universal ones
            assert set(read[stored == raw].tolist()) == {expected}


@pytest.mark.parametrize("dataset", MSEG)
def test_pairs_follow_the_official_folders_and_lists(root, taxonomy, dataset):
    home, line = MSEG[dataset]
    if dataset in TEST_FOLDERS:
        pair = MSegTestPairs(root, taxonomy, dataset, "val")()[0]
    else:
        pair = MSegPairs(root, taxonomy, "val", {dataset: 1})()[0]
    expected = [root / home / f"val_{path}" for path in line.split()]
    assert [pair.image, pair.labels] == expected
    assert pair.name == f"{dataset}/val_{line.split()[0].rpartition('.')[0]}"


def test_small_sets_are_repeated_in_training_only_and_zero_leaves_one_out(root, taxonomy):
    repeat = {**REPEAT, TRAINING[2]: 0}
    train, val = (MSegPairs(root, taxonomy, split, repeat)() for split in ("train", "val"))
    counted = {name: sum(pair.condition == name for pair in train) for name in repeat}
    assert counted == repeat
    assert [pair.condition for pair in val] == [name for name, times in repeat.items() if times]
    assert len({pair.image for pair in train}) == 6


def test_a_repeated_image_is_checked_once(root, taxonomy, monkeypatch):
    pairs = MSegPairs(root, taxonomy, "train", {TRAINING[0]: 40})()
    checked = []
    monkeypatch.setattr("gss.data.verify.verify_pair", lambda pair, space: checked.append(pair))
    verify_pairs(pairs, universal_labels(taxonomy))
    assert (len(pairs), len(checked)) == (40, 1)


def test_a_test_set_keeps_its_own_classes(root, taxonomy):
    space = own_labels(taxonomy, "camvid-11")
    assert list(space.names) == own_names("camvid-11")
    pair = MSegTestPairs(root, taxonomy, "camvid-11", "val")()[0]
    np.testing.assert_array_equal(read_pair_labels(pair, space), np.asarray(Image.open(pair.labels)))


def test_universal_classes_go_into_the_class_of_the_test_set_in_their_row(taxonomy):
    members = members_of(taxonomy, "camvid-11")
    said = {
        own: [UNIVERSAL[u] for u in row.nonzero()[0]] for own, row in zip(own_names("camvid-11"), members, strict=True)
    }
    assert said == {
        "Bicyclist": ["bicyclist", "bicycle"],
        "Building": ["building"],
        "Pedestrian": ["person"],
        "Road": ["road"],
        "Sky": ["sky"],
    }
    assert members_of(taxonomy, "voc2012").sum(0).tolist() == [1] * len(UNIVERSAL)  # background takes what is left


def test_probabilities_of_merged_classes_add_up(taxonomy):
    members = members_of(taxonomy, "voc2012")
    probs = torch.rand(2, len(UNIVERSAL), 3, 5, generator=torch.Generator().manual_seed(0)).softmax(1)
    merged = merged_probs(probs, members)
    expected = np.zeros(merged.shape)
    for b, u, h, w in np.ndindex(*probs.shape):
        for k in range(len(members)):
            expected[b, k, h, w] += float(probs[b, u, h, w]) * (members[k, u] == 1)
    np.testing.assert_allclose(merged.numpy(), expected, atol=1e-6)
    torch.testing.assert_close(merged.sum(1), torch.ones(2, 3, 5))


@pytest.mark.parametrize(
    ("repeat", "message"),
    [
        (
            {"voc2012": 1},
            r"'voc2012' is no training set of MSeg; .*repeat may have ade20k-150-relabeled, bdd-relabeled",
        ),
        ({"bdd-relabeled": -1}, r"data\.splits\.train\.repeat\.bdd-relabeled must be a whole number .* got -1"),
        ({"bdd-relabeled": True}, r"repeat\.bdd-relabeled must be a whole number"),
        ({"bdd-relabeled": 0}, r"repeat leaves no data set of MSeg, got \{'bdd-relabeled': 0\}"),
    ],
)
def test_what_cannot_be_repeated_is_refused(repeat, message):
    with pytest.raises(ValueError, match=message):
        MSegPairs("anywhere", "anywhere", "train", repeat)


def test_a_test_set_that_mseg_does_not_have_is_refused():
    with pytest.raises(
        ValueError, match=r"'bdd' is no test set of MSeg: data\.label_space\.dataset may be camvid-11, "
    ):
        MSegTestPairs("anywhere", "anywhere", "bdd", "val")


def test_a_missing_clone_says_where_to_get_it(tmp_path):
    with pytest.raises(
        ValueError, match=r"MSeg_master\.tsv' .*clone github\.com/mseg-dataset/mseg-api.*label_space\.taxonomy"
    ):
        universal_labels(tmp_path)


def test_a_table_that_is_none_is_refused(taxonomy):
    (taxonomy / "class_remapping_files" / "MSeg_master.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(ValueError, match=r"MSeg_master\.tsv' has no column 'universal'"):
        universal_labels(taxonomy)
    (taxonomy / "class_remapping_files" / "MSeg_master.tsv").write_text("")
    with pytest.raises(ValueError, match=r"MSeg_master\.tsv' has no column 'universal'"):
        universal_labels(taxonomy)


def test_a_column_or_list_of_names_that_is_missing_is_named(taxonomy):
    with pytest.raises(ValueError, match=r"MSeg_master\.tsv' has no column 'viper'"):
        list(Taxonomy(taxonomy).pairs("viper"))
    (taxonomy / "dataset_lists" / "voc2012" / "voc2012_names.txt").unlink()
    with pytest.raises(ValueError, match=r"cannot read '.*voc2012_names\.txt' .*mseg-api"):
        own_labels(taxonomy, "voc2012")


def test_a_class_of_the_table_without_a_name_in_the_list_is_named(taxonomy):
    (taxonomy / "dataset_lists" / "voc2012" / "voc2012_names.txt").write_text("background\nbicycle\nperson\n")
    with pytest.raises(ValueError, match=r"names the class 'chair' of voc2012, but voc2012_names\.txt does not"):
        members_of(taxonomy, "voc2012")


def test_a_missing_data_set_list_or_file_is_named(root, taxonomy):
    def source():
        return MSegPairs(root, taxonomy, "val", {"bdd-relabeled": 1})

    file_list = taxonomy / "dataset_lists/bdd-relabeled/list/val.txt"
    (root / "BDD/bdd100k" / file_list.read_text().split()[1]).unlink()
    with pytest.raises(
        ValueError, match=r"line 1 of '.*bdd-relabeled/list/val\.txt' names '.*train_id\.png', but there is no"
    ):
        source()()
    file_list.write_text("../../secret.jpg ../../secret.png\n")
    with pytest.raises(ValueError, match=r"line 1 of .* names '\.\./\.\./secret\.jpg', but there is no file"):
        source()()
    file_list.write_text("../../../secret.jpg ../../secret.png\n")
    with pytest.raises(ValueError, match=r"line 1 of .* names .*, outside data\.root"):
        source()()
    file_list.write_text("alone.jpg\n")
    with pytest.raises(ValueError, match=r"line 1 of .* has 1 columns, but MSeg lists an image and its label file"):
        source()()
    shutil.rmtree(root / "BDD")
    with pytest.raises(ValueError, match=r"the folder '.*BDD/bdd100k' of bdd-relabeled does not exist: set data\.root"):
        source()()
