"""Loaders: batches of samples from a data set and a sampler, read by processes that keep to one thread."""

from __future__ import annotations

from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Sampler

from gss.data.dataset import Sample, SegmentationDataset


class ResumableLoader(DataLoader[Sample]):
    """A loader that continues where training stopped, and says so to the trainer.

    Its place is the trainer's step, from which the sampler starts; so there is no state of its own to keep,
    but without these two methods Lightning would warn that resuming is unreliable.
    """

    def state_dict(self) -> dict[str, Any]:
        """Give what a checkpoint must keep: nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing back."""


def build_loader(
    data: SegmentationDataset, sampler: Sampler[Any], batch_size: int, num_workers: int
) -> ResumableLoader:
    """Build a loader whose worker processes live as long as it does.

    Args:
        data: gives the samples.
        sampler: says which, and in which order.
        batch_size: samples per batch; the last batch may be smaller.
        num_workers: reading processes; 0 reads in the calling process.
    """
    return ResumableLoader(
        data,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        worker_init_fn=one_thread,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def one_thread(worker: int) -> None:
    """Keep a worker on one thread: the workers are the parallelism, and OpenCV can hang after a fork."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
