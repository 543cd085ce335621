"""A worker that is killed or stuck ends the loader, in bounded time and with one sentence."""

from __future__ import annotations

import os
import signal
import time

import lightning as L
import pytest
import torch

from gss.data.dataset import SampleRequest, SegmentationDataset, Workers, build_loader
from gss.data.transforms import Augmentation, training_transform


class Failing(SegmentationDataset):
    """Gives its first two items; then its worker is killed from outside, or never answers again."""

    way = "killed"

    def __getitem__(self, request):
        if request.number >= 2 and torch.utils.data.get_worker_info() is not None:
            if self.way == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(3600)
        return super().__getitem__(request)


@pytest.fixture
def failing(write_split, label_space):
    """Give a function that makes the data set fail in one way."""

    def make(way):
        data = Failing(write_split(count=4)(), label_space, training_transform((16, 24), Augmentation()))
        data.way = way
        return data

    return make


DRAWS = [SampleRequest(index, index) for index in range(4)]


@pytest.fixture(autouse=True)
def short_good_byes(monkeypatch):
    """Torch waits this long, in seconds, for workers to end by themselves."""
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.5)


def seconds_to_end(data, workers, words):
    start = time.perf_counter()
    with pytest.raises(ValueError, match=words):
        list(build_loader(data, DRAWS, 2, workers))
    return time.perf_counter() - start


def test_a_killed_worker_is_named_at_once(failing):
    words = (
        r"one of data\.num_workers=1 reading processes died \(DataLoader worker \(pid.*\).*; if the machine ran "
        r"out of memory, lower data\.num_workers; data\.num_workers=0 reads in the main process"
    )
    assert seconds_to_end(failing("killed"), Workers(1, timeout=3000), words) < 60


def test_a_stuck_worker_is_given_up_after_the_timeout(failing):
    words = (
        r"no batch came within data\.timeout=1 seconds: one of data\.num_workers=1 processes is stuck, or the disk is "
        r"slow; raise data\.timeout, or set data\.num_workers=0"
    )
    assert 1 <= seconds_to_end(failing("stuck"), Workers(1, timeout=1), words) < 60


def test_the_main_process_is_not_watched(failing):
    assert len(list(build_loader(failing("killed"), DRAWS, 2, Workers(0, timeout=0.001)))) == 2


class Slow(L.LightningModule):
    """Trains one number, and is in the middle of a step when the worker dies."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def training_step(self, batch, batch_idx):
        for _ in range(100):
            time.sleep(0.05)
        return self.weight * batch["image"].mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_death_in_the_middle_of_a_step_is_named_too(failing):
    workers = Workers(1)
    trainer = L.Trainer(
        accelerator="cpu", max_steps=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"one of data\.num_workers=1 reading processes died"), workers.watched():
        trainer.fit(Slow(), build_loader(failing("killed"), DRAWS, 2, workers))


def test_other_errors_are_left_alone():
    with pytest.raises(RuntimeError, match=r"^out of memory$"), Workers(1).watched():
        raise RuntimeError("out of memory")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1,), r"num_workers must be a whole number of at least 0, got -1; mend data.num_workers"),
        ((True,), r"num_workers must be a whole number of at least 0, got True"),
        ((1, -2.0), r"timeout must be at least 0 seconds, got -2.0; mend data.timeout"),
        ((1, float("nan")), r"timeout must be at least 0 seconds, got nan"),
        ((1, 0, "thread"), r"data.multiprocessing_context=thread is not one of .*spawn.*; or leave it null"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Workers(*arguments)


def test_settings_reach_torch(failing):
    loader = build_loader(failing("killed"), DRAWS, 2, Workers(2, 7, "spawn"))
    assert (loader.num_workers, loader.timeout, loader.persistent_workers) == (2, 7, True)
    assert loader.multiprocessing_context.get_start_method() == "spawn"
