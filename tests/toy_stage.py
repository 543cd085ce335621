"""A LightningModule of one weight that logs and shows what real stages do, and drawn images."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gss.display import PanelRow
from gss.labels import LabelSpace

LABEL_SPACE = LabelSpace.from_names(["road", "tree"], [(10, 20, 30), (40, 150, 60)])


def draw_rows(images: Tensor) -> list[PanelRow]:
    """Panel rows that depend on nothing but the images, (B, 3, H, W)."""
    rows = []
    for image in images:
        labels = (image[0] > 0.5).long()
        probs = torch.stack([image[1], 1 - image[1]])
        rows.append(PanelRow(f"photo_{image.mean():.6f}", image, labels, None, None, probs.argmax(0), probs))
    return rows


class ToyStage(pl.LightningModule):
    """Validation scores fall from one validation to the next, so that the best checkpoint is the first."""

    def __init__(self, trains: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.label_space = LABEL_SPACE
        self.palette = None
        self.stage_name = "toy"
        self.trains = trains
        self.asked: list[tuple[int, int]] = []
        self.validations = 0

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor | None:
        return (self.weight - batch.mean()).square().sum() if self.trains else None

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        return None

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.validations += 1
            self.log_dict({"val/miou": 1.0 / self.validations, "val/iou/road": 0.75, "val/iou/tree": float("nan")})

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1) if self.trains else None

    def panel_rows(self, batch: Tensor, limit: int) -> list[PanelRow]:
        self.asked.append((len(batch), limit))
        return draw_rows(batch[:limit])


def images(count: int, seed: int = 0) -> Tensor:
    """(count, 3, 16, 16) float32 in [0, 1]."""
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def loader(count: int, batch_size: int = 2) -> DataLoader[Tensor]:
    return DataLoader(list(images(count)), batch_size=batch_size)  # type: ignore[arg-type]
