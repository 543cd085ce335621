"""Measures a finished stage one over a split: labels -> maskige -> tokens -> maskige -> labels, no image.

Beside the figures there is something to look at: the palette, the codebook, and the label maps with the lowest mIoU,
which are kept while Lightning validates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import Tensor

from gss.assembly.checkpoints import StageOne
from gss.callbacks.progress import StepProgress
from gss.data.datamodule import SegmentationDataModule
from gss.display import PanelRow, draw_panel
from gss.display.colours import Pixels, to_pixels
from gss.display.stage_one import draw_codebook, draw_palette, order_by_use
from gss.labels import LabelSpace, check_same_classes
from gss.metrics.confusion import codebook_perplexity, codebook_usage, confusion_counts, scores
from gss.metrics.scoreboard import Scoreboard
from gss.pipeline import MaskigeAutoencoder
from gss.runs.evaluation import or_none, tally_figures, with_others
from gss.runs.training import build_trainer
from gss.stages.base import Batch, gathered
from gss.stages.prior import PriorStage

MOST_TOKENS = 1024  # in the picture of the codebook
AT_A_TIME = 64  # tokens that are decoded for it at once


@dataclass(frozen=True)
class ReconstructionReport:
    """What was measured.

    Args:
        metrics: what `metrics.json` holds.
        token_counts: (V,) int64, how often each token occurs on the split.
        worst: the ten worst label maps, the worst first.
    """

    metrics: dict[str, Any]
    token_counts: Tensor
    worst: list[Reconstructed]


class Reconstructed(NamedTuple):
    """One label map after its way through tokens.

    Args:
        miou: of this label map alone, over the classes in it, in [0, 1].
        name: the image's.
        image: (3, H, W) float32 in [0, 1], which only the eye needs.
        labels: (H, W) int64 in [0, K) or 255.
        predicted_labels: (H, W) int64 in [0, K).
    """

    miou: float
    name: str
    image: Tensor
    labels: Tensor
    predicted_labels: Tensor


def measure_reconstruction(
    stage_one: StageOne, datamodule: SegmentationDataModule, split: str, config: Mapping[str, Any]
) -> ReconstructionReport:
    """Figures of a split at the data's size, and what there is to look at.

    Args:
        stage_one: the autoencoder.
        datamodule: must have its classes.
        split: of the data module.
        config: with `hardware` and `paths`.

    Raises:
        ValueError: if the classes do not fit, or the data are at fault.
    """
    check_same_classes(stage_one.source, stage_one.classes, f"data={datamodule.name}", datamodule.label_space.names)
    datamodule.eval_split = split
    datamodule.evaluate_at_size()
    stage = PriorStage(stage_one.autoencoder, datamodule.label_space, None, {})
    worst = WorstReconstructions(datamodule.label_space)
    trainer = build_trainer(config, [StepProgress(), worst], [])
    trainer.validate(stage, datamodule=datamodule, verbose=False)
    return ReconstructionReport(_metrics(stage, datamodule.label_space), stage.token_counts.compute(), worst.worst)


def _metrics(stage: PriorStage, label_space: LabelSpace) -> dict[str, Any]:
    """Figures in [0, 1] except the perplexity and the distance of colours (0-255 scale); None where undefined."""
    boundary = zip(label_space.names, stage.boundary.compute().tolist(), strict=True)
    counts = stage.token_counts.compute()
    first, second, distance = stage.autoencoder.transform.palette.closest_pair()
    names = [*label_space.names, "ignored"]
    return {
        "mode": "reconstruction",
        **with_others(stage.boards, _ceiling_figures, "ceiling"),
        "boundary_f3": or_none(stage.boundary.mean()),
        "boundary_f3_per_class": {name: or_none(value) for name, value in boundary},
        "third_class_rate": or_none(float(stage.phantom_classes.compute())),
        "vocab_size": len(counts),
        "codebook_usage": codebook_usage(counts),
        "codebook_perplexity": or_none(codebook_perplexity(counts)),
        "closest_pair": {"names": [names[first], names[second]], "distance": distance},
    }


def _ceiling_figures(board: Scoreboard) -> dict[str, Any]:
    figures = tally_figures(board.tally("ceiling"))
    return {"ceiling": figures.pop("miou"), **figures}


class WorstReconstructions(Callback):
    """Holds the label maps with the lowest mIoU of their own, the worst first; after validation those of all processes.

    Args:
        label_space: the classes.
        limit: label maps to hold.
    """

    def __init__(self, label_space: LabelSpace, limit: int = 10) -> None:
        super().__init__()
        self.label_space, self.limit = label_space, limit
        self.worst: list[Reconstructed] = []

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Looks at a batch of the own data set; `outputs` are its reconstructed labels (B, H, W) int64 in [0, K)."""
        if dataloader_idx > 0:
            return
        for name, *tensors in zip(batch["name"], batch["image"], batch["labels"], outputs, strict=True):
            image, labels, predicted = (tensor.cpu() for tensor in tensors)
            counts = confusion_counts(predicted, labels, self.label_space.num_classes)
            miou = scores(counts, self.label_space.names).miou
            if not math.isnan(miou):  # nan: no labelled pixel
                self._keep([*self.worst, Reconstructed(miou, name, image, labels, predicted)])

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Brings the worst of all processes together."""
        self._keep([one for found in gathered(self.worst) for one in found])

    def _keep(self, found: Sequence[Reconstructed]) -> None:
        self.worst = sorted(found, key=lambda one: (one.miou, one.name))[: self.limit]


def save_pictures(
    stage_one: StageOne, label_space: LabelSpace, report: ReconstructionReport, folder: Path
) -> list[Path]:
    """Writes `palette.png`, `codebook.png` and `worst_reconstructions.png`, and gives their paths.

    The last is left out where no label map has a labelled pixel.

    Args:
        stage_one: what was measured.
        label_space: names and display colours of its classes.
        report: what was measured on a split.
        folder: of the run.
    """
    autoencoder = stage_one.autoencoder.cpu()
    palette = autoencoder.transform.palette
    colours = [(red, green, blue) for red, green, blue in palette.every_8_bit().tolist()]
    pictures = {
        "palette": draw_palette([*label_space.names, "ignored"], colours, palette.closest_pair()),
        "codebook": _codebook(autoencoder, report.token_counts.cpu()),
    }
    if report.worst:
        rows = [_row(autoencoder, one) for one in report.worst]
        pictures["worst_reconstructions"] = draw_panel(rows, label_space, autoencoder.transform.colours)
    paths = [folder / f"{name}.png" for name in pictures]
    for path, picture in zip(paths, pictures.values(), strict=True):
        picture.save(path, optimize=True)
    return paths


@torch.no_grad()
def _codebook(autoencoder: MaskigeAutoencoder, counts: Tensor) -> Image.Image:
    """The most used tokens of counts (V,) int64, each as the middle of a constant 3x3 token field shows it."""
    shown = order_by_use(counts.tolist(), MOST_TOKENS)
    tiles: list[Pixels] = []
    for some in torch.tensor(shown).split(AT_A_TIME):
        maskiges = autoencoder.decode(some[:, None, None].expand(-1, 3, 3)).maskige()
        side = maskiges.shape[-1] // 3
        tiles += map(to_pixels, maskiges[:, :, side : 2 * side, side : 2 * side])
    shares = (counts.double() / counts.sum().clamp(min=1))[shown]
    some_of = f"the {len(shown)} most used of " if len(shown) < len(counts) else ""
    heading = f"{some_of}{len(counts)} tokens, {int((counts > 0).sum())} of which occur; share of the cells below each"
    return draw_codebook(np.stack(tiles), shares.numpy(), heading)


@torch.no_grad()
def _row(autoencoder: MaskigeAutoencoder, one: Reconstructed) -> PanelRow:
    labels = one.labels[None]
    maskige, decoded = autoencoder.transform.paint(labels)[0], autoencoder.reconstruct(labels).maskige()
    shown = (one.image, one.labels, maskige, decoded[0], one.predicted_labels)
    return PanelRow(one.name, *shown, class_probs=None, miou=one.miou)
