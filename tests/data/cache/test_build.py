"""Cached splits: the same pixels as the files, whole or refused, built on where a build stopped."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch
from PIL import Image

from gss.data.cache import build as building
from gss.data.cache.build import SplitCache
from gss.data.cache.note import listed_once
from gss.data.cache.split import CachedSplit, open_cached
from gss.data.datamodule import SegmentationDataModule
from gss.data.dataset import SegmentationDataset, TrainingSampler, Workers, build_loader
from gss.data.reading import read_image, read_labels
from gss.data.transforms import Augmentation, training_transform
from gss.labels import LabelSpace

REMEDY = "python -m gss.data cache data=tiny output="


@pytest.fixture
def pairs(write_split):
    """Five pairs, one of another size, one a JPEG."""
    source = write_split(count=5)
    first, second = source()[:2]
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (17, 23, 3), np.uint8)).save(first.image)
    Image.fromarray(rng.integers(0, 3, (17, 23), np.uint8)).save(first.labels)
    Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(second.image.with_suffix(".jpg"))
    second.image.unlink()
    return source()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def source(pairs, folder, label_space, pairs_per_shard=2):
    return SplitCache(folder / "train", "train", pairs, label_space, pairs_per_shard)


def opened(pairs, folder, label_space):
    return open_cached(folder, "train", pairs, label_space, "tiny")


def assert_holds(cached, pairs, label_space):
    assert len(cached) == len(pairs)
    for index, pair in enumerate(pairs):
        image, labels = cached[index]
        np.testing.assert_array_equal(image, read_image(pair.image))
        np.testing.assert_array_equal(labels, read_labels(pair.labels, label_space))


def test_a_cache_holds_what_the_files_hold(pairs, folder, label_space):
    assert source(pairs, folder, label_space).build() == 3
    cached = opened(pairs, folder, label_space)
    assert_holds(cached, pairs, label_space)
    assert_holds(pickle.loads(pickle.dumps(cached)), pairs, label_space)
    assert sorted(path.name for path in (folder / "train").iterdir()) == [
        "00000.bin", "00000.json", "00001.bin", "00001.json", "00002.bin", "00002.json", "lock",
    ]  # fmt: skip
    pixels = 17 * 23 + 4 * 24 * 32
    assert sum(path.stat().st_size for path in (folder / "train").glob("*.bin")) == 4 * pixels


def test_a_view_copies_nothing_and_cannot_be_written_to(pairs, folder, label_space):
    source(pairs, folder, label_space).build()
    cached = opened(pairs, folder, label_space)
    image, labels = cached[3]
    assert not image.flags.owndata
    assert not image.flags.writeable
    assert np.shares_memory(labels, cached[3][1])
    assert isinstance(image.base.base, np.memmap) or isinstance(image.base, np.memmap)


def test_pairs_listed_again_lie_there_once(pairs, folder, label_space):
    own = LabelSpace(label_space.names, label_space.colours, {0: 2, 1: 1, 2: 0, 255: 255})
    pairs = [pair._replace(label_space=own) if pair.name == "2" else pair for pair in pairs]
    listing = [*pairs[2:4], *pairs, *pairs[2:4]]
    listing.append(listing[0]._replace(label_space=None))
    once, order = listed_once(listing)
    assert [pair.name for pair in once] == ["2", "3", "0", "1", "4", "2"]
    assert order == [0, 1, 2, 3, 0, 1, 4, 0, 1, 5]
    source(once, folder, label_space).build()
    cached = opened(listing, folder, label_space)
    for index, pair in enumerate(listing):
        np.testing.assert_array_equal(cached[index][1], read_labels(pair.labels, pair.label_space or label_space))
    with pytest.raises(ValueError, match=r"its table takes file id 0 to 2, that of data\.label_space to 0"):
        opened([pair._replace(label_space=None) for pair in listing[:-1]], folder, label_space)


@pytest.mark.parametrize("geometry", ["fit", "native"])
@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_batches_from_cache_and_files_are_the_same_from_any_number_of_workers(
    pairs, folder, label_space, geometry, num_workers
):
    source(pairs, folder, label_space).build()
    augmentation = Augmentation(geometry=geometry, max_share=0.75 if geometry == "native" else 1, colour="distortion")
    transform = training_transform((16, 24), augmentation)

    def batches(workers, cached=None):
        data = SegmentationDataset(pairs, label_space, transform, 3, cached)
        return list(build_loader(data, TrainingSampler(5, 2, 6, seed=0), 2, workers))

    own = batches(Workers(num_workers), opened(pairs, folder, label_space))
    for one, other in zip(batches(Workers()), own, strict=True):
        assert one["name"] == other["name"]
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["labels"], other["labels"])


@pytest.mark.slow
def test_a_spawned_worker_maps_the_shards_itself(pairs, folder, label_space):
    source(pairs, folder, label_space).build()
    cached = opened(pairs, folder, label_space)
    cached[0]
    data = SegmentationDataset(pairs, label_space, training_transform((16, 24), Augmentation()), 0, cached)
    (own,) = build_loader(data, [0, 1, 2], 3, Workers(1, context="spawn"))
    (here,) = build_loader(data, [0, 1, 2], 3, Workers())
    assert torch.equal(own["image"], here["image"])


def test_nothing_is_written_twice(pairs, folder, label_space):
    source(pairs, folder, label_space).build()
    times = {path: path.stat().st_mtime_ns for path in (folder / "train").glob("0*")}
    assert source(pairs, folder, label_space).build() == 0
    assert source(pairs, folder, label_space).build(full=True) == 0
    assert all(path.stat().st_mtime_ns == time for path, time in times.items() if path.suffix == ".bin")


class Stopped(BaseException):
    """Stands for a kill."""


def test_an_interrupted_build_goes_on_after_the_last_whole_shard(pairs, folder, label_space, monkeypatch):
    read = []

    def stopping(path):
        read.append(path)
        if path == pairs[3].image and len(read) < 6:
            raise Stopped
        return read_image(path)

    monkeypatch.setattr(building, "read_image", stopping)
    with pytest.raises(Stopped):
        source(pairs, folder, label_space).build()
    assert sorted(path.name for path in (folder / "train").glob("*")) == ["00000.bin", "00000.json", "lock"]
    (folder / "train" / ".00001.bin.tmp").write_bytes(b"what a kill left")
    with pytest.raises(ValueError, match=r"train' is not whole: 00001\.json is missing; run `python -m gss\.data"):
        CachedSplit.open(folder / "train", pairs, label_space, REMEDY + "cache")
    monkeypatch.setattr(building, "read_image", lambda path: read.append(path) or read_image(path))
    read.clear()
    assert source(pairs, folder, label_space).build() == 2
    assert sorted(read) == sorted(pair.image for pair in pairs[2:])
    assert not list((folder / "train").glob(".*"))
    assert_holds(opened(pairs, folder, label_space), pairs, label_space)


def test_a_full_disk_keeps_whole_shards_and_says_what_to_do(pairs, folder, label_space, monkeypatch):
    replace = os.replace

    def full(new, target):
        if target.name == "00001.bin":
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(new, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        ValueError,
        match=r"the disk of '.*train' is full: 1 of 3 shards are whole and stay; make room and repeat the command, "
        r"which goes on from there, or set output=FOLDER on another disk",
    ):
        source(pairs, folder, label_space).build()
    assert sorted(path.name for path in (folder / "train").iterdir()) == ["00000.bin", "00000.json", "lock"]
    monkeypatch.undo()
    assert source(pairs, folder, label_space).build() == 2


def test_a_build_that_has_no_room_does_not_begin(pairs, folder, label_space, monkeypatch):
    usage = namedtuple("usage", "total used free")
    pixels = 17 * 23 + 4 * 24 * 32
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 4 * pixels - 1))
    with pytest.raises(
        ValueError,
        match=r"caching the split 'train' takes 1\.39e-05 GB, but '.*' has room for 1\.39e-05 GB; make room, or set",
    ):
        source(pairs, folder, label_space).build()
    assert not list((folder / "train").glob("0*"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 4 * pixels))
    assert source(pairs, folder, label_space).build() == 3


def test_a_folder_that_cannot_be_written_to_is_named(pairs, folder, label_space):
    folder.write_text("a file")
    with pytest.raises(ValueError, match=r"cannot build the cache '.*train' \(.*\); set output=FOLDER"):
        source(pairs, folder, label_space).build()


def test_two_builds_at_once_are_kept_apart(pairs, folder, label_space, monkeypatch):
    def second(path):
        with pytest.raises(ValueError, match=r"another process builds the cache in '.*train'; wait for it, or stop it"):
            source(pairs, folder, label_space).build()
        return read_image(path)

    monkeypatch.setattr(building, "read_image", second)
    assert source(pairs, folder, label_space).build() == 3


def test_a_broken_file_stops_the_build_by_name(pairs, folder, label_space):
    pairs[4].image.write_bytes(pairs[4].image.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"cannot read image '.*4\.png'"):
        source(pairs, folder, label_space).build()
    assert len(list((folder / "train").glob("*.json"))) == 2


def change(path):
    """Another picture of the same size, with its time as of now."""
    rng = np.random.default_rng(9)
    with Image.open(path) as picture:
        shape = np.asarray(picture).shape
    Image.fromarray(rng.integers(0, 3, shape, np.uint8)).save(path)


@pytest.mark.parametrize("which", ["image", "labels"])
def test_a_changed_file_is_named_and_its_shard_built_anew(pairs, folder, label_space, which):
    source(pairs, folder, label_space).build()
    change(getattr(pairs[3], which))
    words = (
        rf"does not fit the data: '.*{getattr(pairs[3], which).name}' was changed since, its size or time is another"
    )
    command = r"; run `python -m gss\.data cache data=tiny output=.*cache split=train` with the data words of this run"
    with pytest.raises(ValueError, match=words + command):
        opened(pairs, folder, label_space)
    assert source(pairs, folder, label_space).build() == 1
    assert_holds(opened(pairs, folder, label_space), pairs, label_space)


def test_a_file_of_another_time_and_the_same_content_is_taken_again_without_decoding(pairs, folder, label_space):
    source(pairs, folder, label_space).build()
    os.utime(pairs[0].image, ns=(1, 1))
    with pytest.raises(ValueError, match=r"0\.png' was changed since"):
        opened(pairs, folder, label_space)
    assert source(pairs, folder, label_space).build() == 0
    assert_holds(opened(pairs, folder, label_space), pairs, label_space)


def test_the_whole_check_finds_what_size_and_time_hide(pairs, folder, label_space):
    source(pairs, folder, label_space).build()
    status = pairs[2].image.stat()
    content = bytearray(pairs[2].image.read_bytes())
    content[-20] ^= 1  # of the last checksum
    pairs[2].image.write_bytes(content)
    os.utime(pairs[2].image, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert source(pairs, folder, label_space).build() == 0
    with pytest.raises(ValueError, match=r"cannot read image '.*2\.png'"):
        source(pairs, folder, label_space).build(full=True)
    shard = folder / "train" / "00000.bin"
    raw = bytearray(shard.read_bytes())
    raw[5] ^= 1
    shard.write_bytes(raw)
    pairs = pairs[:2]
    assert source(pairs, folder, label_space).build() == 0
    assert source(pairs, folder, label_space).build(full=True) == 1
    assert_holds(opened(pairs, folder, label_space), pairs, label_space)


def test_other_settings_and_listings_are_refused_by_what_differs(pairs, folder, label_space):
    source(pairs, folder, label_space).build()
    ignoring = LabelSpace.from_names(label_space.names, ignore_ids=[7])
    for space, pairs_now, words in (
        (
            LabelSpace(label_space.names, label_space.colours, {0: 1, 1: 0, 2: 2, 255: 255}),
            pairs,
            "file id 0 to 0, .*to 1",
        ),
        (ignoring, pairs, r"its table takes file id 7 nowhere, that of data\.label_space to 255"),
        (label_space, pairs[1:], "it holds '0' where the split has '1'"),
        (label_space, pairs[:3], "it holds '3' where the split has nothing"),
        (
            label_space,
            [*pairs, pairs[0]._replace(image=pairs[0].labels, name="5")],
            r"not whole: 00003\.json is missing",
        ),
    ):
        with pytest.raises(ValueError, match=words + rf".*; run `{REMEDY}"):
            opened(pairs_now, folder, space)
    assert source(pairs, folder, ignoring).build() == 3
    with pytest.raises(ValueError, match=r"file id 7 to 255, that of data\.label_space nowhere"):
        opened(pairs, folder, label_space)
    assert source(pairs[:2], folder, label_space).build() == 1
    assert sorted(path.name for path in (folder / "train").iterdir()) == ["00000.bin", "00000.json", "lock"]


def test_damage_is_named(pairs, folder, label_space):
    source(pairs, folder, label_space).build()
    shard, noted = folder / "train" / "00001.bin", folder / "train" / "00001.json"
    whole, note = shard.read_bytes(), noted.read_text()
    shard.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"is damaged: 00001\.bin is cut off; run `python"):
        opened(pairs, folder, label_space)
    shard.unlink()
    with pytest.raises(ValueError, match=r"is damaged: .*No such file.*00001\.bin.*; run `python"):
        opened(pairs, folder, label_space)
    shard.write_bytes(whole)
    noted.write_text(note[:40])
    with pytest.raises(ValueError, match=r"is damaged: '.*00001\.json' is not the note of a shard"):
        opened(pairs, folder, label_space)
    noted.write_text(json.dumps({**json.loads(note), "format": 0}))
    with pytest.raises(ValueError, match=r"it has format 0, and this version reads format 1"):
        opened(pairs, folder, label_space)
    assert source(pairs, folder, label_space).build() == 1
    assert_holds(opened(pairs, folder, label_space), pairs, label_space)


def test_a_data_module_reads_the_splits_that_are_cached(write_split, label_space, folder, caplog):
    sources = {"train": write_split("train", 4), "val": write_split("val", 3)}

    def module(**settings):
        return SegmentationDataModule(
            "tiny", label_space, sources, (16, 24), Augmentation(), 2, 0, max_steps=3, **settings
        )

    with pytest.raises(
        ValueError, match=rf"data\.cache=.* holds no cache; run `{REMEDY}.*` with .*, or set data\.cache=null"
    ):
        module(cache=folder).prepare_data()
    source(sources["train"](), folder, label_space).build()
    caplog.set_level("INFO")
    data = module(cache=folder)
    data.prepare_data()
    data.setup("fit")
    assert data.cached("train") is not None
    assert data.cached("val") is None
    assert f"data.cache={folder} has no split 'val', which is read from its files" in caplog.text
    for one, other in zip(module().train_dataloader(), data.train_dataloader(), strict=True):
        assert torch.equal(one["image"], other["image"])
    change(sources["train"]()[0].labels)
    with pytest.raises(ValueError, match="does not fit the data"):
        module(cache=folder).setup("fit")
