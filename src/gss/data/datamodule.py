"""SegmentationDataModule: any data set that can list its pairs, served to Lightning by steps, not epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from gss.data.adverse import Adverse
from gss.data.cache.split import CachedSplit, open_cached
from gss.data.dataset import EvaluationShard, Sample, SegmentationDataset, TrainingSampler, Workers, build_loader
from gss.data.pairs import Pair, PairSource
from gss.data.reading import read_pair_labels
from gss.data.transforms import Augmentation, evaluation_transform, resize_labels, training_transform
from gss.data.verify import num_threads, verify_pairs
from gss.labels import LabelSpace, first_difference


class SegmentationDataModule(L.LightningDataModule):
    """Images and labels in batches: image (B, 3, H, W) float32 [0, 1], labels (B, H, W) int64, names.

    The train loader holds exactly the training's steps, so that one "epoch" is the whole training; the split
    is reshuffled pass by pass underneath. Sharding over ranks happens here (the trainer needs
    `use_distributed_sampler=False`).

    Args:
        name: of the data set, for artefacts and reports.
        label_space: the classes.
        splits: lists the pairs of each split; called only for splits in use.
        size: (H, W) of what the network sees, pixels.
        augmentation: what may change between two looks at a training image.
        batch_size: images per training step and rank.
        num_workers: reading processes per loader; 0 reads in the main process.
        max_steps: training steps that the train loader has to serve.
        eval_batch_size: images per evaluation step and rank.
        seed: of shuffle and augmentation.
        verify: check every file before training starts.
        root: folder of the data set; the pair sources know it already, here it is only on record.
        native: evaluate at each image's own size, labels untouched, as the benchmarks do; else at `size`. How the
            network is shown such images is the inference's business.
        elsewhere: other data sets, by name, whose `eval_split` is served beside the own one in validation.
        cache: folder that `python -m gss.data cache` wrote, for decoded images and labels; None: the files.
        timeout: seconds that a batch may take before its worker is given up as stuck; 0 waits for ever.
        multiprocessing_context: how workers are started: fork, spawn or forkserver; None: the system's way.
        adverse: conditions under which evaluation sees each image; None: as it is. Training never does.

    Raises:
        ValueError: a number is out of range, images of different sizes are to share a batch, or a data set
            elsewhere has other classes.
    """

    def __init__(
        self,
        name: str,
        label_space: LabelSpace,
        splits: Mapping[str, PairSource],
        size: Sequence[int],
        augmentation: Augmentation,
        batch_size: int,
        num_workers: int,
        max_steps: int = 1,
        eval_batch_size: int = 1,
        seed: int = 0,
        verify: bool = True,
        root: str | Path | None = None,
        native: bool = False,
        elsewhere: Mapping[str, SegmentationDataModule] | None = None,
        cache: str | Path | None = None,
        timeout: float = 0.0,
        multiprocessing_context: str | None = None,
        adverse: Adverse | None = None,
    ) -> None:
        """Check the numbers; no file is touched."""
        super().__init__()
        self.name = name
        self.label_space = label_space
        self.splits = dict(splits)
        if len(size) != 2 or any(type(side) is not int or side < 1 for side in size):  # `type`: True is no size
            raise ValueError(f"size needs two whole numbers above 0 (height, width), got {size}; mend data.size")
        self.size = size[0], size[1]
        self.augmentation = augmentation
        self.batch_size = _at_least(1, "batch_size", batch_size)
        self.workers = Workers(num_workers, timeout, multiprocessing_context)
        self.max_steps = _at_least(1, "max_steps", max_steps)
        self.eval_batch_size = _at_least(1, "eval_batch_size", eval_batch_size)
        self.seed = _at_least(0, "seed", seed)
        self.verify = verify
        self.root = root
        self.native = native
        self.elsewhere = dict(elsewhere or {})
        self.adverse = adverse
        self.eval_split = "val"
        if native and eval_batch_size != 1:
            raise ValueError(
                f"eval_batch_size is {eval_batch_size}, but data.native=true serves images at their own sizes, one "
                "at a time; mend data.eval_batch_size"
            )
        for key, other in self.elsewhere.items():
            _require_same_classes(name, label_space, key, other.label_space)
        self.cache = cache
        self._pairs: dict[str, list[Pair]] = {}
        self._cached: dict[str, CachedSplit | None] = {}
        self._verified: set[str] = set()

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return self.label_space.num_classes

    def prepare_data(self) -> None:
        """Draw or find the files of the splits in use and check them; every fault in the data ends here.

        Raises:
            ValueError: one sentence that names the file and what is wrong with it.
        """
        for split in self._splits_in_use():
            self.check(split)
        if self.eval_split in self._splits_in_use():
            for other in self.elsewhere.values():
                other.check(other.eval_split)

    def setup(self, stage: str | None = None) -> None:
        """List the splits in use on every rank, so that a missing folder or cache shows before any worker starts."""
        for split in self._splits_in_use():
            self.cached(split)
        for other in self.elsewhere.values():
            other.trainer = self.trainer  # where this process stands among the others

    def check(self, split: str) -> None:
        """List one split and check its files, once; those of a cache were checked when it was built.

        Raises:
            ValueError: one sentence that names the file and what is wrong with it.
        """
        if self.verify and self.cached(split) is None and split not in self._verified:
            verify_pairs(self.pairs(split), self.label_space)
            self._verified.add(split)

    def evaluate_at_size(self) -> None:
        """Serve evaluation at `size` whatever `native` says: what is measured on labels alone is measured there."""
        self.native = False
        for other in self.elsewhere.values():
            other.evaluate_at_size()

    def pairs(self, split: str) -> list[Pair]:
        """List one split; the disk is searched at the first call only.

        Raises:
            ValueError: the split is not declared, or its files are not there.
        """
        if split not in self.splits:
            known = ", ".join(self.splits)
            raise ValueError(f"no split '{split}' in data set '{self.name}'; data.splits has {known}")
        if split not in self._pairs:
            self._pairs[split] = self.splits[split]()
        return self._pairs[split]

    def cached(self, split: str) -> CachedSplit | None:
        """Open and check the cache of one split, once; None where the split is read from its files.

        Raises:
            ValueError: the split or the cache is at fault; says what differs, and the command that rebuilds the cache.
        """
        pairs = self.pairs(split)
        if split not in self._cached:
            self._cached[split] = open_cached(self.cache, split, pairs, self.label_space, str(self.name))
        return self._cached[split]

    def evaluation_pairs(self, split: str) -> list[Pair]:
        """List one split as evaluation visits it: each pair once, or once per condition of `adverse`."""
        pairs = self.pairs(split)
        return pairs if self.adverse is None else self.adverse.pairs(pairs)

    def dataset(
        self, split: str, augment: bool = False, native: bool = False, evaluated: bool = False
    ) -> SegmentationDataset:
        """Give one split as a data set of samples.

        Args:
            split: its name.
            augment: augmented at `size`, as training sees them; else as they are.
            native: of what is not augmented: at its own size; else at `size`.
            evaluated: as evaluation visits them, under the conditions of `adverse`, which begin from the files.
        """
        if augment:
            transform = training_transform(self.size, self.augmentation)
        else:
            transform = evaluation_transform(None if native else self.size)
        if evaluated and self.adverse:
            pairs, cached, degrade = self.evaluation_pairs(split), None, self.adverse.degrade
        else:
            pairs, cached, degrade = self.pairs(split), self.cached(split), None
        return SegmentationDataset(pairs, self.label_space, transform, self.seed, cached, degrade)

    def label_batches(self, split: str, batch_size: int = 16) -> Iterator[Tensor]:
        """Give the label maps of a split in order and un-augmented, (B, H, W) int64, [0, K) or 255.

        This is what a tokenizer is fitted to; images are not read. The last batch may be smaller.
        """

        def label_map(pair: Pair) -> NDArray[np.uint8]:
            """Read one label map at the network's input size, (H, W) uint8."""
            return resize_labels(read_pair_labels(pair, self.label_space), self.size)

        todo = iter(self.pairs(split))
        with ThreadPoolExecutor(max_workers=num_threads()) as pool:
            while batch := list(islice(todo, batch_size)):
                yield torch.from_numpy(np.stack(list(pool.map(label_map, batch)))).long()

    def train_dataloader(self) -> DataLoader[Sample]:
        """Serve all steps of the training, from the step on that the trainer has reached.

        Raises:
            ValueError: the trainer is to take more steps than there are batches.
        """
        trainer, data = self.trainer, self.dataset("train", augment=True)
        if trainer and trainer.max_steps > self.max_steps:  # Lightning would start over with the same batches
            raise ValueError(
                f"the trainer takes {trainer.max_steps} steps, but the data serve {self.max_steps}; "
                "set both through the key max_steps"
            )
        batches_per_step = trainer.accumulate_grad_batches if trainer else 1
        rank, world_size = self._place()
        sampler = TrainingSampler(
            num_pairs=len(data),
            batch_size=self.batch_size,
            num_steps=self.max_steps * batches_per_step,
            seed=self.seed,
            first_step=trainer.global_step * batches_per_step if trainer else 0,
            rank=rank,
            world_size=world_size,
        )
        return build_loader(data, sampler, self.batch_size, self.workers)

    @property
    def evaluated(self) -> tuple[str, ...]:
        """Names of the data sets that validation visits, in the order of its loaders: the own one first."""
        return (str(self.name), *self.elsewhere)

    def conditions(self, split: str) -> tuple[str, ...]:
        """Name the parts of a split that are scored by themselves, in alphabetical order; the same on every rank."""
        return tuple(sorted({pair.condition for pair in self.evaluation_pairs(split)} - {""}))

    def evaluated_conditions(self) -> dict[str, tuple[str, ...]]:
        """Name the conditions of each data set that validation visits, the own one first."""
        sets = (self, *self.elsewhere.values())
        return {name: one.conditions(one.eval_split) for name, one in zip(self.evaluated, sets, strict=True)}

    def val_dataloader(self) -> DataLoader[Sample] | list[DataLoader[Sample]]:
        """Serve this rank's share of `eval_split`, in order; a list with a loader per data set if there are others."""
        own = self.evaluation_loader(self.eval_split)
        others = [other.evaluation_loader(other.eval_split) for other in self.elsewhere.values()]
        return [own, *others] if others else own

    def test_dataloader(self) -> DataLoader[Sample]:
        """Serve this rank's share of the test split, in order."""
        return self.evaluation_loader("test")

    def evaluation_loader(self, split: str) -> DataLoader[Sample]:
        """Build a loader that visits each pair exactly once over all ranks, at `size` or at native size."""
        data = self.dataset(split, native=self.native, evaluated=True)
        rank, world_size = self._place()
        shard = EvaluationShard(len(data), rank, world_size)
        return build_loader(data, shard, self.eval_batch_size, self.workers)

    def _place(self) -> tuple[int, int]:
        """Give the rank of this process and the number of processes; (0, 1) without a trainer."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _splits_in_use(self) -> tuple[str, ...]:
        """Name the splits that the trainer's present task reads; without a trainer, those of a training."""
        task = self.trainer.state.fn if self.trainer else None
        splits = {"validate": (self.eval_split,), "test": ("test",), "predict": ()}
        return splits.get(task or "fit", ("train", self.eval_split))


def _at_least(least: int, name: str, value: int) -> int:
    """Refuse anything but whole numbers from the smallest sensible one on."""
    if type(value) is not int or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}; mend data.{name}")
    return value


def _require_same_classes(own_name: str, own: LabelSpace, name: str, other: LabelSpace) -> None:
    """Refuse a data set elsewhere whose classes are not those of the own one."""
    rule = f"data.elsewhere.{name} must be another data set of the same classes"
    if name == own_name:
        raise ValueError(f"{rule}, and not '{own_name}' itself; take it out, or give it another name")
    if other.names != own.names:
        raise ValueError(
            f"{rule}: '{own_name}' has {len(own.names)} and '{name}' has {len(other.names)}, and "
            f"{first_difference(own.names, other.names)}; take it out"
        )
