"""TrainingDraws and EvaluationShard: which pairs a rank sees, as pure functions of seed, step and rank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


@dataclass(frozen=True, slots=True)
class Draw:
    """A request for pair `index`; `number` counts the draws of a whole training, over all ranks."""

    index: int
    number: int


class TrainingDraws(Sampler[Draw]):
    """An endless shuffle, cut to the training's length: pass after pass over the split, each in a new order.

    Draw n takes element n mod N of pass n div N, whose order is a permutation seeded by (seed, pass). Step t
    consumes the draws t * B .. t * B + B - 1 of the global batch B, each rank its own share. Nothing is
    remembered, so a resumed training continues exactly where it stopped, with any number of workers.

    Args:
        num_pairs: N, pairs in the split.
        batch_size: draws per step and rank.
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
        """Count this rank's draws of the whole training: the trainer counts resumed steps itself."""
        return self.num_steps * self.batch_size

    def __iter__(self) -> Iterator[Draw]:
        """Give this rank's draws from `first_step` on."""
        current, order = -1, np.empty(0, dtype=np.int64)
        for step in range(self.first_step, self.num_steps):
            first = (step * self.world_size + self.rank) * self.batch_size
            for number in range(first, first + self.batch_size):
                one_pass, place = divmod(number, self.num_pairs)
                if one_pass != current:
                    current, order = one_pass, self._order(one_pass)
                yield Draw(int(order[place]), number)

    def _order(self, one_pass: int) -> NDArray[np.int64]:
        """Shuffle the indices for one pass: (N,) int64, each of [0, N) once."""
        return np.random.default_rng([self.seed, one_pass]).permutation(self.num_pairs)


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
