"""SegmentationDataset: from a pair of files to tensors. TrainingSampler, EvaluationShard: which pairs a rank sees.

All of it is a function of the seed and the number of the sample: place and augmentation of sample n are the same with
any number of workers, and in a training that was resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

import albumentations as A
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

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

    def __init__(
        self,
        pairs: Sequence[Pair],
        label_space: LabelSpace,
        transform: A.Compose,
        seed: int = 0,
        cached: CachedSplit | None = None,
        degrade: Callable[[NDArray[np.uint8], Pair], NDArray[np.uint8]] | None = None,
    ) -> None:
        """Store the parts; nothing is read before an item is asked for."""
        self.pairs = pairs
        self.label_space = label_space
        self.transform = transform
        self.seed = seed
        self.cached = cached
        self.degrade = degrade

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

    def __init__(
        self,
        num_pairs: int,
        batch_size: int,
        num_steps: int,
        seed: int = 0,
        first_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Store the numbers."""
        assert num_pairs > 0
        assert 0 <= rank < world_size
        self.num_pairs = num_pairs
        self.batch_size = batch_size
        self.num_steps = num_steps
        self.seed = seed
        self.first_step = first_step
        self.rank = rank
        self.world_size = world_size

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
