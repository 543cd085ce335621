"""What the stages share: optimiser, scores from pooled confusion matrices, and what a checkpoint records.

A loss or a gradient that is not finite stops a training before the update that it would spoil.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from itertools import chain
from operator import getitem
from typing import Any, TypedDict, TypeVar

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from gss.labels import LabelSpace
from gss.metrics.scoreboard import Scoreboard, Tally, check_names, harmonic_mean
from gss.stages.optimisation import Optimisation

T = TypeVar("T")

REMEDY = (  # a resumed schedule keeps the learning rate that it was saved with
    "start anew with a lower optim.optimizer.lr, or go on from the last checkpoint, which is as it was, by resume=PATH "
    "and a lower optim.gradient_clip or hardware.precision=32-true"
)


class Batch(TypedDict):
    """What the data module serves: `image` (B, 3, H, W) float32 [0, 1], `labels` (B, H, W) int64, names, conditions."""

    image: Tensor
    labels: Tensor
    name: list[str]
    condition: list[str]


class Stage(L.LightningModule):
    """A LightningModule that only orchestrates: networks, losses and metrics are made elsewhere.

    A class sets `stage_name`, and `may_learn`: submodules by name, each of which some training of it may train.

    Args:
        label_space: the classes.
        optimisation: optimiser and schedule; None where nothing is trained.
        record: plain data kept in every checkpoint under `gss` (configuration, classes, prior), from which
            `gss.assembly.build` rebuilds the networks.
        scored: names of the predictions that are scored, each in its own tally of every data set.
    """

    stage_name: str
    may_learn: tuple[str, ...]
    steps_key = "max_steps"  # of the training's length in the configuration

    def __init__(
        self,
        label_space: LabelSpace,
        optimisation: Optimisation | None,
        record: Mapping[str, Any],
        scored: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.label_space, self.optimisation = label_space, optimisation
        self.record = {"stage": self.stage_name, "label_space": label_space.to_dict(), **record}
        self.scored = scored
        self._boards = nn.ModuleList()
        self._watch = FiniteWatch()

    def learning(self) -> dict[str, nn.Module]:
        """The submodules that learn in this training, by name: those of `may_learn` that gradients reach."""
        parts = dict(self.named_modules())
        there = {name: parts[name] for name in self.may_learn if name in parts}
        return {name: part for name, part in there.items() if any(p.requires_grad for p in part.parameters())}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW or what the config says, with the schedule stepped per step, not per epoch."""
        assert self.optimisation is not None
        optimizer, schedule = self.optimisation.build(self)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def setup(self, stage: str) -> None:
        """Draws up a scoreboard for each data set that validation visits.

        Raises:
            ValueError: with the fingerprints found, if processes of one run were started with different
                configurations; or if a data set or a condition has a name that the log keys use already.
        """
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        visited = {"": ()} if datamodule is None else datamodule.evaluated_conditions()
        check_names(visited, (*self.scored, "iou", "reconstruction"))
        boards = (Scoreboard(name, self.new_tallies(conditions)) for name, conditions in visited.items())
        self._boards = nn.ModuleList(boards)
        if self.trainer.world_size > 1:
            mine = hashlib.sha256(json.dumps(self.record, sort_keys=True).encode()).hexdigest()[:12]
            if len(set(found := gathered(mine))) > 1:
                raise ValueError(f"the processes of this run have different configurations: {found}; restart them")

    def names(self, batch: Any) -> list[str]:
        """What the images of a batch are called."""
        return list(batch["name"])

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Remembers the batch, for what is said of it if its loss is not finite."""
        self._batch_names = partial(self.names, batch)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Notes the loss before gradients are taken."""
        self._watch.note(loss, self._batch_names)
        super().backward(loss, *args, **kwargs)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stops all processes before an update by a loss or a gradient that is not finite."""
        gradients = {name: weight.grad for name, weight in self.named_parameters() if weight.grad is not None}
        self._watch.check(gradients, self.global_step + 1, self.trainer.precision == "16-mixed")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the record: plain containers, so that the file loads with `weights_only=True`."""
        checkpoint["gss"] = self.record

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses to resume from the other stage, another phase of it, or a training that was another one.

        The checkpoint brings its learning-rate schedule along, which has reached zero at its own last step.

        Raises:
            ValueError: naming both stages, phases or lengths, or callbacks that are not those of the training.
        """
        record = checkpoint.get("gss", {})
        if (found := record.get("stage")) != self.stage_name:
            raise ValueError(f"resume names a checkpoint of stage={found}, but this run is stage={self.stage_name}")
        if record.get("phase", self.record.get("phase")) != self.record.get("phase"):
            raise ValueError(
                f"resume names a training of phase={record['phase']}, but this run is at phase={self.record['phase']}: "
                "set maskige and stage.maskige_source as they were"
            )
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        if "averaging_state" in checkpoint and not any(isinstance(one, WeightAveraging) for one in callbacks):
            raise ValueError("resume names a training with averaged weights: set callbacks as it was (callbacks=ema)")
        keys = self.steps_key.split(".")
        planned, wanted = (reduce(getitem, keys, kept["config"]) for kept in (record, self.record))
        if planned != wanted:
            raise ValueError(
                f"resume names a training of {planned} steps, not {wanted}: set {self.steps_key}={planned}"
            )

    def new_tallies(self, conditions: Sequence[str]) -> dict[str, Tally]:
        """What is counted of each scored prediction over a data set with these conditions."""
        return {name: Tally(self.label_space.names, conditions) for name in self.scored}

    @property
    def boards(self) -> list[Scoreboard]:
        """What was counted over each data set, in the order of validation's loaders: the own one first."""
        return [board for board in self._boards if isinstance(board, Scoreboard)]

    def prefixes(self) -> dict[str, Scoreboard]:
        """The boards by what their log keys begin with: `val` for the own data set, else `val/<name>`."""
        return {f"val/{board.name}" if number else "val": board for number, board in enumerate(self.boards)}

    def on_validation_epoch_start(self) -> None:
        """Empties the scoreboards."""
        for board in self.boards:
            board.reset()

    def log_scores(self, tally: Tally, prefix: str, in_detail: bool = False) -> float:
        """Logs the figures of a tally under a prefix, in detail also by class and condition, and gives the mIoU."""
        figures = tally.figures()
        if in_detail:
            figures |= {f"iou/{name}": iou for name, iou in tally.scores().per_class.items()}
            figures |= {f"{name}/miou": found.miou for name, found in tally.by_condition().items()}
            if tally.condition_names:
                figures["condition_mean"] = tally.condition_mean()
        for name, figure in figures.items():
            self.log_figure(f"{prefix}/{name}", figure)
        return figures["miou"]

    def log_harmonic_mean(self, mious: Sequence[float]) -> None:
        """Logs how all data sets fare together, where there are several."""
        if len(mious) > 1:
            self.log_figure("val/harmonic_mean", harmonic_mean(mious))

    def log_figure(self, name: str, value: float | Tensor, prog_bar: bool = False) -> None:
        """Logs a validation figure, which is not averaged over processes.

        It comes from counts that were summed over processes, so every process has the same figure: the largest is that
        figure to the last bit, which a mean of three or more need not be.
        """
        self.log(name, value, prog_bar=prog_bar, sync_dist=True, reduce_fx="max")


class FiniteWatch:
    """Notes the loss of every batch of a step, and looks at them and at the gradients once the step is complete.

    Until then nothing is asked of the device, so the watch costs one pass over the gradients and one small transfer per
    step. All processes come to the same verdict.
    """

    def __init__(self) -> None:
        self._noted: list[tuple[Tensor, Callable[[], list[str]]]] = []
        self._before: tuple[list[str], Tensor] | None = None  # of the last finite step

    def note(self, loss: Tensor, names: Callable[[], list[str]]) -> None:
        """Keeps the loss (a scalar) of a batch, and how to learn what its images are called."""
        self._noted.append((loss.detach().float(), names))

    def check(self, gradients: Mapping[str, Tensor], step: int, skips_overflow: bool) -> None:
        """Looks at a step, all of whose losses are noted, before its update.

        Args:
            gradients: by parameter name, summed over batches and processes, neither scaled nor clipped.
            step: its number, from 1.
            skips_overflow: whether a scaler leaves out the update by itself where gradients overflow (float16).

        Raises:
            ValueError: naming the step, the images, the largest gradient and the remedy.
        """
        noted, self._noted = self._noted, []
        losses = torch.stack([loss for loss, _ in noted])
        norms = gradient_norms(gradients).to(losses.device)
        wrong = torch.stack([~losses.isfinite().all(), ~norms.isfinite().all()]).int()
        if _runs_beside_others():
            torch.distributed.all_reduce(wrong, torch.distributed.ReduceOp.MAX)
        of_loss, of_gradient = wrong.tolist()
        if of_loss:
            found = [f"{loss.item()} with {', '.join(names())}" for loss, names in noted if not loss.isfinite()]
            told = "; ".join(chain.from_iterable(gathered(found)))
            raise ValueError(f"the loss of step {step} is {told} ({self._largest_before()}): {REMEDY}")
        if of_gradient and not skips_overflow:
            name = list(gradients)[int(norms.isfinite().int().argmin())]
            told = ", ".join(chain.from_iterable(gathered([name for _, names in noted for name in names()])))
            raise ValueError(
                f"the gradient of step {step} is not finite, first in {name}, with {told} "
                f"({self._largest_before()}): {REMEDY}"
            )
        if not of_gradient:
            self._before = (list(gradients), norms)

    def _largest_before(self) -> str:
        if self._before is None or not self._before[0]:
            return "there was no finite step before it"
        names, values = self._before
        value, place = values.max(dim=0)
        return f"the largest gradient of the last finite step has norm {value:.3g}, of {names[int(place)]}"


def gradient_norms(gradients: Mapping[str, Tensor]) -> Tensor:
    """The Euclidean norm of each gradient: (number of gradients,) float32.

    It is not finite where an entry is not, or where the entries' squares are too large for float32. On a CPU it is much
    cheaper than the largest entry.
    """
    if not gradients:
        return torch.zeros(0)
    norms = torch._foreach_norm(list(gradients.values()), 2)
    return torch.stack([norm.float() for norm in norms])


def gathered(mine: T) -> list[T]:
    """What every process of a run gives, in the order of their ranks and the same on all of them.

    Args:
        mine: of this process, anything that can be pickled; alone in the list where there is one process only.
    """
    if not _runs_beside_others():
        return [mine]
    everyones = [mine] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyones, mine)
    return everyones


def _runs_beside_others() -> bool:
    """Whether this process is one of a distributed run."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()
