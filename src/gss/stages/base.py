"""What both stages share: optimiser, scores from pooled confusion matrices, and what a checkpoint records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypedDict

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import Metric

from gss.labels import LabelSpace
from gss.metrics import ConfusionMatrix, scores
from gss.stages.optimisation import Optimisation


class Batch(TypedDict):
    """What the data module serves: `image` (B, 3, H, W) float32 [0, 1], `labels` (B, H, W) int64, B names."""

    image: Tensor
    labels: Tensor
    name: list[str]


class Stage(L.LightningModule):
    """A LightningModule that only orchestrates: networks, losses and metrics are made elsewhere.

    Args:
        label_space: the classes.
        optimisation: optimiser and schedule; None where nothing is trained.
        record: plain data kept in every checkpoint under `gss` (configuration, classes, prior), from which
            `gss.assembly` rebuilds the networks.
        scored: names of the predictions that are scored, each in its own confusion matrix.
    """

    stage_name: str
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
        self._confusion = nn.ModuleDict({name: ConfusionMatrix(label_space.num_classes) for name in scored})

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW or what the config says, with the schedule stepped per step, not per epoch."""
        assert self.optimisation is not None
        optimizer, schedule = self.optimisation.build(self)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def setup(self, stage: str) -> None:
        """Stops when processes of one run were started with different configurations.

        Raises:
            ValueError: with the fingerprints found.
        """
        if self.trainer.world_size > 1:
            mine = hashlib.sha256(json.dumps(self.record, sort_keys=True).encode()).hexdigest()[:12]
            found: list[str | None] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(found, mine)
            if len(set(found)) > 1:
                raise ValueError(f"the processes of this run have different configurations: {found}; restart them")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the record: plain containers, so that the file loads with `weights_only=True`."""
        checkpoint["gss"] = self.record

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses to resume from the other stage, another phase of it, or a training of another length.

        The checkpoint brings its learning-rate schedule along, which has reached zero at its own last step.

        Raises:
            ValueError: naming both stages, phases or lengths.
        """
        record = checkpoint.get("gss", {})
        if (found := record.get("stage")) != self.stage_name:
            raise ValueError(f"resume names a checkpoint of stage={found}, but this run is stage={self.stage_name}")
        if record.get("phase", self.record.get("phase")) != self.record.get("phase"):
            raise ValueError(
                f"resume names a training of phase={record['phase']}, but this run is at phase={self.record['phase']}: "
                "set maskige and stage.maskige_source as they were"
            )
        planned, wanted = (_at(kept["config"], self.steps_key) for kept in (record, self.record))
        if planned != wanted:
            raise ValueError(
                f"resume names a training of {planned} steps, not {wanted}: set {self.steps_key}={planned}"
            )

    def confusion(self, name: str) -> ConfusionMatrix:
        """The pooled counts (K, K) int64 of one scored prediction."""
        matrix = self._confusion[name]
        assert isinstance(matrix, ConfusionMatrix)
        return matrix

    def on_validation_epoch_start(self) -> None:
        """Empties the confusion matrices."""
        for name in self._confusion:
            self.confusion(name).reset()

    def log_scores(self, name: str, prefix: str, per_class: bool) -> float:
        """Logs mIoU, mAcc and aAcc of one pooled matrix under a prefix, and returns the mIoU in [0, 1]."""
        result = scores(self.confusion(name).compute(), self.label_space.names)
        values = {f"{prefix}/miou": result.miou, f"{prefix}/macc": result.macc, f"{prefix}/aacc": result.aacc}
        if per_class:
            values |= {f"{prefix}/iou/{name}": value for name, value in result.per_class.items()}
        self.log_dict(values)
        return result.miou

    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Logs as Lightning does, except that validation figures are not averaged over processes.

        They come from counts that were summed over processes, so every process has the same figure: the largest is
        that figure to the last bit, which a mean of three or more need not be.
        """
        if name.startswith("val/") and not isinstance(value, Metric):  # a Metric pools by itself
            kwargs |= {"sync_dist": True, "reduce_fx": "max"}
        super().log(name, value, *args, **kwargs)


def _at(config: Any, key: str) -> Any:
    """The value of a dotted key."""
    for name in key.split("."):
        config = config[name]
    return config
