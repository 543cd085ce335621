"""Adverse conditions: which are served, that they are drawn from names alone, and that they are graded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from gss.data.adverse import CLEAN, KINDS, Adverse, degradation_seed
from gss.data.datamodule import SegmentationDataModule
from gss.data.pairs import Pair
from gss.data.scenes import draw_scene
from gss.data.transforms import Augmentation

ALL = Adverse()


@pytest.fixture
def build(write_split, label_space):
    """Give a function that builds a data module over 2 training and 3 validation pairs, under all conditions."""
    splits = {"train": write_split("train", 2), "val": write_split("val", 3)}

    def build(name="tiny", adverse=ALL, **changes):
        settings = {"size": (24, 32), "batch_size": 2, "num_workers": 0} | changes
        return SegmentationDataModule(
            name, label_space, splits, augmentation=Augmentation(), adverse=adverse, **settings
        )

    return build


def served(loader):
    """What a loader serves by (name, condition)."""
    found = {}
    for batch in loader:
        for place, key in enumerate(zip(batch["name"], batch["condition"], strict=True)):
            assert key not in found
            found[key] = (batch["image"][place], batch["labels"][place])
    return found


def scene(size=(360, 480), number=3):
    return draw_scene(0, number, size)[0]


def changed(kind, strength, image, seed=0, seen_at=None):
    """Mean absolute change of an image, in grey levels; at a network's size if one is given."""
    degraded = Adverse((kind,), (strength,), seed).degrade(image, Pair(Path(), None, "a", f"{kind}-{strength}"))
    if seen_at:
        image, degraded = (cv2.resize(one, seen_at[::-1], interpolation=cv2.INTER_AREA) for one in (image, degraded))
    return np.abs(degraded.astype(float) - image).mean()


def test_every_image_is_served_clean_and_under_every_condition(build):
    data = build()
    data.prepare_data()
    found = served(data.val_dataloader())
    assert len(ALL.conditions) == len(set(ALL.conditions)) == 25 == 1 + 3 * len(KINDS)
    assert list(found) == [(name, condition) for condition in ALL.conditions for name in ("0", "1", "2")]
    clean = served(build(adverse=None).val_dataloader())
    for (name, condition), (image, labels) in found.items():
        plain, true = clean[name, ""]
        assert torch.equal(labels, true)
        assert torch.equal(image, plain) == (condition == CLEAN)
        assert (image.min() >= 0) & (image.max() <= 1)


def test_training_and_what_is_fitted_to_labels_know_nothing_of_it(build):
    data, plain = build(), build(adverse=None)
    for ours, other in zip(data.train_dataloader(), plain.train_dataloader(), strict=True):
        assert torch.equal(ours["image"], other["image"])
        assert ours["condition"] == ["", ""]
    assert data.pairs("val") == plain.pairs("val")
    assert sum(len(labels) for labels in data.label_batches("val")) == 3
    assert {pair.condition for pair in data.evaluation_pairs("val")} == set(ALL.conditions)
    assert data.conditions("val") == tuple(sorted(ALL.conditions))  # so each of them is scored by itself


def test_pictures_depend_on_nothing_but_seed_name_kind_and_strength(build):
    alone = served(build().val_dataloader())
    for changes in ({"num_workers": 2}, {"eval_batch_size": 4}, {"seed": 7}):
        others = served(build(**changes).val_dataloader())
        assert all(torch.equal(image, others[key][0]) for key, (image, _) in alone.items())
    few = served(build(adverse=Adverse(["noise", "fog"], [2])).val_dataloader())  # other kinds, another order
    assert set(few) == {(n, c) for n in ("0", "1", "2") for c in (CLEAN, "noise-2", "fog-2")}
    assert all(torch.equal(image, alone[key][0]) for key, (image, _) in few.items())
    data = build()
    shares = []
    for rank in range(3):
        data._place = lambda rank=rank: (rank, 3)
        shares.append(served(data.val_dataloader()))
    assert sum(map(len, shares)) == 75
    assert all(torch.equal(image, alone[key][0]) for share in shares for key, (image, _) in share.items())
    reseeded = served(build(adverse=Adverse(seed=1)).val_dataloader())
    drawn = [key for key in alone if key[1].rpartition("-")[0] in ("fog", "rain", "snow", "noise", "night")]
    assert len(drawn) == 45
    assert not any(torch.equal(alone[key][0], reseeded[key][0]) for key in drawn)


def test_seeds_are_the_same_in_another_process_and_differ_by_every_word():
    code = "from gss.data.adverse import degradation_seed; print(degradation_seed(3, 'a/b', 'fog-1'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    words = [(3, "a/b", "fog-1"), (4, "a/b", "fog-1"), (3, "a/c", "fog-1"), (3, "a/b", "fog-2"), (3, "a/b", "rain-1")]
    seeds = [degradation_seed(*these) for these in words]
    assert seeds[0] == int(other.stdout)
    assert len(set(seeds)) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_graded(kind):
    images = [scene(number=number) for number in range(12)]  # half of a dozen are blurred by a disc, half by a line
    mild, plain, severe = (
        np.mean([changed(kind, strength, image, seed, (192, 256)) for seed, image in enumerate(images)])
        for strength in (1, 2, 3)
    )
    assert 1.1 * plain < severe
    assert 1.1 * mild < plain
    assert mild > 1
    assert severe < 128


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "jpeg"])  # whose blocks are pixels by definition
def test_strengths_are_relative_to_the_picture(kind):
    large = scene((1024, 1365))
    small = cv2.resize(large, (480, 360), interpolation=cv2.INTER_AREA)
    network = (192, 256)
    for strength in (1, 3):
        at_small = np.mean([changed(kind, strength, small, seed, network) for seed in range(4)])
        at_large = np.mean([changed(kind, strength, large, seed, network) for seed in range(4)])
        assert at_large == pytest.approx(at_small, rel=0.25)


@pytest.mark.parametrize("size", [(16, 24), (33, 17), (90, 400)])
def test_pictures_of_any_size_keep_it_and_are_left_unchanged_themselves(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    before = image.copy()
    for condition in ALL.conditions:
        degraded = ALL.degrade(image, Pair(Path(), None, "a", condition))
        assert (degraded.shape, degraded.dtype) == (image.shape, np.uint8)
    assert np.array_equal(image, before)


def test_they_are_degraded_at_their_own_size_before_the_network_sees_them(build, tmp_path):
    data = build(size=(12, 16))
    key = ("0", "rain-3")
    full = ALL.degrade(np.asarray(Image.open(tmp_path / "images/val/0.png")), Pair(Path(), None, *key))
    reduced = cv2.resize(full, (16, 12), interpolation=cv2.INTER_AREA)
    seen = served(data.val_dataloader())[key][0]
    np.testing.assert_allclose(seen.numpy().transpose(1, 2, 0) * 255, reduced, atol=1e-4)
    native = served(build(native=True).val_dataloader())[key][0]
    np.testing.assert_allclose(native.numpy().transpose(1, 2, 0) * 255, full, atol=1e-4)


def test_elsewhere_serves_them_beside_the_own_data_set(build):
    data = build(adverse=None, elsewhere={"tiny_adverse": build("tiny_adverse", Adverse(["fog"], [1, 2, 3]))})
    own, other = data.val_dataloader()
    assert data.evaluated == ("tiny", "tiny_adverse")
    assert {condition for _, condition in served(own)} == {""}
    assert {condition for _, condition in served(other)} == {"clean", "fog-1", "fog-2", "fog-3"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kinds": ["fog", "rian"]}, r"unknown kind 'rian' in data\.adverse\.kinds; nearest: rain$"),
        ({"kinds": ["x"]}, "there are: fog, night, rain, snow, sun_glare, blur, noise, jpeg$"),
        ({"kinds": ["fog", "rain", "fog"]}, r"data\.adverse\.kinds names 'fog' more than once"),
        ({"kinds": []}, r"data\.adverse\.kinds is empty; name at least one, or set data\.adverse=null"),
        ({"strengths": [0, 1]}, r"strength 0 in data\.adverse\.strengths is none of 1 \(mild\), 2, 3 \(severe\)"),
        ({"strengths": [4]}, "strength 4 in"),
        ({"strengths": [1.5]}, "strength 1.5 in"),
        ({"strengths": [True]}, "strength True in"),
        ({"strengths": [2, 2]}, r"data\.adverse\.strengths names 2 more than once"),
        ({"strengths": []}, r"data\.adverse\.strengths is empty"),
        ({"seed": -1}, r"at least 0, got -1; mend data\.adverse\.seed"),
    ],
)
def test_what_is_not_known_is_said(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        Adverse(**changes)


def test_images_of_a_condition_are_not_degraded_once_more():
    with pytest.raises(ValueError, match=r"'a\.png' is an image of the condition 'fog' already.*data\.adverse=null"):
        ALL.pairs([Pair(Path("a.png"), None, "a", "fog")])
