"""From pairs of files to batches: the data set, the samplers that say which pairs a rank sees, and the loaders.

All of it is a function of the seed and the number of the sample: place and augmentation of sample n are the same with
any number of workers, and in a training that was resumed. Loaders read by processes that keep to one thread.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypedDict

import albumentations as A
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from gss.data.cache.split import CachedSplit
from gss.data.pairs import Pair
from gss.data.reading import planes, read_image, read_pair_labels, require_same_size
from gss.labels import LabelSpace


class Sample(TypedDict):
    """One item: `image` (3, H, W) float32 [0, 1], `labels` (H, W) int64 in [0, K) or 255; strings beside.

    `name` is what results of the image are reported under, `condition` the part of the split that it belongs to,
    "" where a split has no parts.
    """

    image: Tensor
    labels: Tensor
    name: str
    condition: str


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A request for pair `index`; `number` counts the samples of a whole training, over all ranks."""

    index: int
    number: int


@dataclass(eq=False)
class SegmentationDataset(Dataset[Sample]):
    """Read pairs and bring them to one size.

    Training asks for `SampleRequest(index, number)`: the number, unique over the whole training, seeds the
    augmentation together with `seed`, so that a sample looks the same from any worker and no two samples share
    their randomness (albumentations 2.0.8 by itself repeats its random numbers in every worker and epoch). Evaluation
    asks by plain index.

    Args:
        pairs: files of the split.
        label_space: translates file ids to train ids.
        transform: albumentations pipeline that ends at the network's input size; one without steps leaves images
            and labels as large as they are.
        seed: of the augmentation.
        cached: the same pairs, decoded; None reads the files.
        degrade: what happens to an image (H, W, 3) uint8 as it was read, before the transform; None: nothing.
    """

    pairs: Sequence[Pair]
    label_space: LabelSpace
    transform: A.Compose
    seed: int = 0
    cached: CachedSplit | None = None
    degrade: Callable[[NDArray[np.uint8], Pair], NDArray[np.uint8]] | None = None

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.pairs)

    def __getitem__(self, request: SampleRequest | int) -> Sample:
        """Read, check and transform one pair.

        Raises:
            ValueError: a file is broken, or labels and image do not match.
        """
        index, number = (request.index, request.number) if isinstance(request, SampleRequest) else (request, request)
        pair = self.pairs[index]
        if self.cached is None:
            image, labels = read_image(pair.image), read_pair_labels(pair, self.label_space)
            require_same_size(pair, (image.shape[0], image.shape[1]), (labels.shape[0], labels.shape[1]))
        else:
            image, labels = self.cached[index]
        if self.degrade is not None:
            image = self.degrade(image, pair)
        self.transform.set_random_seed(sample_seed(self.seed, number))
        seen = self.transform(image=image, mask=labels)
        return Sample(
            image=torch.from_numpy(planes(seen["image"])),
            labels=torch.from_numpy(seen["mask"].astype(np.int64, order="C")),
            name=pair.name,
            condition=pair.condition,
        )


def sample_seed(seed: int, number: int) -> int:
    """Mix the run's seed and a sample's number into 32 bits that share nothing with those of neighbouring samples."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


@dataclass(eq=False)
class TrainingSampler(Sampler[SampleRequest]):
    """An endless shuffle, cut to the training's length: pass after pass over the split, each in a new order.

    Sample n is element n mod N of pass n div N, whose order is a permutation seeded by (seed, pass). Step t
    takes the samples t * B .. t * B + B - 1 of the global batch B, each rank its own share. Nothing is
    remembered, so a resumed training continues exactly where it stopped, with any number of workers.

    Args:
        num_pairs: N, pairs in the split.
        batch_size: samples per step and rank.
        num_steps: steps of the whole training.
        seed: of the shuffle.
        first_step: steps already done, which are passed over when resuming.
        rank: this process.
        world_size: number of processes.
    """

    num_pairs: int
    batch_size: int
    num_steps: int
    seed: int = 0
    first_step: int = 0
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        """Hold the numbers against each other."""
        assert self.num_pairs > 0
        assert 0 <= self.rank < self.world_size

    def __len__(self) -> int:
        """Count this rank's samples of the whole training: the trainer counts resumed steps itself."""
        return self.num_steps * self.batch_size

    def __iter__(self) -> Iterator[SampleRequest]:
        """Give this rank's requests from `first_step` on."""
        current, order = -1, np.empty(0, dtype=np.int64)
        for step in range(self.first_step, self.num_steps):
            first = (step * self.world_size + self.rank) * self.batch_size
            for number in range(first, first + self.batch_size):
                one_pass, place = divmod(number, self.num_pairs)
                if one_pass != current:
                    current = one_pass
                    order = np.random.default_rng([self.seed, one_pass]).permutation(self.num_pairs)
                yield SampleRequest(int(order[place]), number)


class EvaluationShard(Sampler[int]):
    """Every `world_size`-th pair from `rank` on: together the ranks see each pair exactly once.

    Padding to equal lengths, as usual in training, would count some pairs twice and change the score.
    """

    def __init__(self, num_pairs: int, rank: int = 0, world_size: int = 1) -> None:
        """Store the share."""
        self.indices = range(rank, num_pairs, world_size)

    def __len__(self) -> int:
        """Count this rank's pairs."""
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        """Give this rank's pairs in order."""
        return iter(self.indices)


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
