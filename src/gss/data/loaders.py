"""Loaders: batches of samples from a data set and a sampler, read by processes that keep to one thread."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Sampler

from gss.data.dataset import Sample, SegmentationDataset


@dataclass(frozen=True)
class Workers:
    """The processes that read, decode and augment.

    Args:
        number: of processes per loader; 0 reads in the calling process.
        timeout: seconds that a batch may take before its worker is given up as stuck; 0 waits for ever.
        context: how processes are started: fork, spawn or forkserver; None: the system's way.

    Raises:
        ValueError: a number is out of range, or the context unknown here.
    """

    number: int = 0
    timeout: float = 0.0
    context: str | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        if type(self.number) is not int or self.number < 0:
            raise ValueError(
                f"num_workers must be a whole number of at least 0, got {self.number!r}; mend data.num_workers"
            )
        if type(self.timeout) not in (int, float) or not self.timeout >= 0:
            raise ValueError(f"timeout must be at least 0 seconds, got {self.timeout!r}; mend data.timeout")
        known = multiprocessing.get_all_start_methods()
        if self.context is not None and self.context not in known:
            raise ValueError(
                f"data.multiprocessing_context={self.context} is not one of {', '.join(known)}; or leave it null"
            )

    def options(self) -> dict[str, Any]:
        """Give what a DataLoader needs to be told; without processes it takes neither timeout nor context."""
        if not self.number:
            return {"num_workers": 0}
        return {
            "num_workers": self.number,
            "timeout": self.timeout,
            "multiprocessing_context": self.context,
            "worker_init_fn": one_thread,
            "persistent_workers": True,
        }

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Turn what torch raises when a worker was killed or is stuck into one sentence with the key that helps.

        A death is raised wherever the main process happens to be, by a signal handler of torch; so a training is
        watched as a whole, besides the loader's own iteration.

        Raises:
            ValueError: a worker died, or gave no batch in time.
        """
        try:
            yield
        except RuntimeError as error:
            words = str(error)
            if words.startswith("DataLoader timed out"):
                raise ValueError(
                    f"no batch came within data.timeout={self.timeout:g} seconds: one of data.num_workers="
                    f"{self.number} processes is stuck, or the disk is slow; raise data.timeout, or set "
                    "data.num_workers=0 to see where"
                ) from error
            if words.startswith("DataLoader worker (pid"):
                raise ValueError(
                    f"one of data.num_workers={self.number} reading processes died ({words.strip()}); if the "
                    "machine ran out of memory, lower data.num_workers; data.num_workers=0 reads in the main process"
                ) from error
            raise


class ResumableLoader(DataLoader[Sample]):
    """A loader that continues where training stopped, and says so to the trainer.

    Its place is the trainer's step, from which the sampler starts; so there is no state of its own to keep,
    but without these two methods Lightning would warn that resuming is unreliable.
    """

    workers = Workers()

    def state_dict(self) -> dict[str, Any]:
        """Give what a checkpoint must keep: nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing back."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch promises a class of its own
        """Start the workers and give the batches; a worker that is lost is named."""
        return self._named(super().__iter__())

    def _named(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Give the batches of a torch iterator."""
        end = object()
        while True:
            with self.workers.watched():
                batch = next(batches, end)
            if batch is end:
                return
            yield batch


def build_loader(
    data: SegmentationDataset, sampler: Sampler[Any], batch_size: int, workers: Workers
) -> ResumableLoader:
    """Build a loader whose worker processes live as long as it does.

    Args:
        data: gives the samples.
        sampler: says which, and in which order.
        batch_size: samples per batch; the last batch may be smaller.
        workers: reading processes.
    """
    loader = ResumableLoader(
        data, batch_size=batch_size, sampler=sampler, pin_memory=torch.cuda.is_available(), **workers.options()
    )
    loader.workers = workers
    return loader


def one_thread(worker: int) -> None:
    """Keep a worker on one thread: the workers are the parallelism, and OpenCV can hang after a fork."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
