from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from gss.data.dataset import SampleRequest, SegmentationDataset, TrainingSampler, Workers, build_loader, sample_seed
from gss.data.transforms import Augmentation, evaluation_transform, training_transform

SIZE = (16, 24)


@pytest.fixture
def training(write_split, label_space):
    pairs = write_split(count=5)()
    return SegmentationDataset(pairs, label_space, training_transform(SIZE, Augmentation()), seed=0)


def collect(data, num_workers, **options):
    loader = DataLoader(data, 2, sampler=TrainingSampler(5, 2, 6, seed=0), num_workers=num_workers, **options)
    return [(batch["name"], batch["image"], batch["labels"]) for batch in loader]


def assert_same(ones, others):
    assert len(ones) == len(others) == 6
    for (name, image, labels), (other_name, other_image, other_labels) in zip(ones, others, strict=True):
        assert name == other_name
        assert torch.equal(image, other_image)
        assert torch.equal(labels, other_labels)


def test_an_item_has_the_promised_form(training, label_space):
    sample = training[SampleRequest(3, 17)]
    assert (sample["image"].shape, sample["image"].dtype) == ((3, *SIZE), torch.float32)
    assert (sample["labels"].shape, sample["labels"].dtype) == (SIZE, torch.int64)
    assert 0 <= sample["image"].min() < 0.2 < 0.8 < sample["image"].max() <= 1
    assert set(sample["labels"].unique().tolist()) <= {0, 1, 2, 255}
    assert sample["name"] == "3"


def test_evaluation_items_are_the_files_themselves(write_split, label_space):
    pairs = write_split(count=3)()
    data = SegmentationDataset(pairs, label_space, evaluation_transform((24, 32)))
    with Image.open(pairs[1].image) as picture, Image.open(pairs[1].labels) as labels:
        np.testing.assert_array_equal(data[1]["image"].permute(1, 2, 0).numpy(), np.float32(picture) / 255)
        np.testing.assert_array_equal(data[1]["labels"].numpy(), np.asarray(labels))


def test_samples_are_the_same_from_0_1_and_2_workers(training):
    alone = collect(training, 0)
    assert_same(alone, collect(training, 1))
    assert_same(alone, collect(training, 2))


def test_samples_survive_a_spawned_worker(training):
    assert_same(collect(training, 0), collect(training, 1, multiprocessing_context="spawn"))


def test_no_two_samples_of_one_pair_look_alike(training):
    looks = [training[SampleRequest(2, number)]["image"] for number in range(12)]
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(looks, 2))


def test_a_sample_repeats_with_its_seed_only(training):
    first = training[SampleRequest(2, 7)]["image"]
    training[SampleRequest(1, 3)]
    assert torch.equal(training[SampleRequest(2, 7)]["image"], first)
    training.seed = 1
    assert not torch.equal(training[SampleRequest(2, 7)]["image"], first)


def test_seeds_of_neighbouring_samples_and_runs_differ():
    seeds = [sample_seed(seed, number) for seed in range(20) for number in range(200)]
    assert len(set(seeds)) > 3990  # 4000 out of 2**32: a collision is unlikely, a pattern would be many


def test_workers_keep_to_one_thread(training):
    class Counting(SegmentationDataset):
        def __getitem__(self, request):
            import cv2

            return {"threads": torch.tensor([torch.get_num_threads(), cv2.getNumThreads()])}

    data = Counting(training.pairs, training.label_space, training.transform)
    batch = next(iter(build_loader(data, TrainingSampler(5, 2, 1), 2, Workers(1))))
    assert batch["threads"].tolist() == [[1, 1], [1, 1]]


def test_without_verification_a_worker_says_the_same_sentence(training):
    training.pairs[0].image.write_bytes(b"")
    with pytest.raises(ValueError, match=r"cannot read image '.*0\.png'"):
        collect(training, 1)
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(training.pairs[1].labels)
    with pytest.raises(ValueError, match=r"1\.png' is 3x4 pixels"):
        training[1]
