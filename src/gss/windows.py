"""Windows cut from label maps where classes meet: inside an area of one class a tokenizer has little to learn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gss.neighbourhood import CROSS, touches_another

POSITIONS = 8  # a window moves in steps of an eighth of its side
EVENLY = 1 / 6  # share of the windows that lie anywhere


@dataclass(frozen=True)
class BoundaryWindows:
    """Draws windows in proportion to the class boundaries in them, a sixth of them anywhere.

    Args:
        number: of windows per step.
        side: in pixels.

    Raises:
        ValueError: if either is not positive.
    """

    number: int
    side: int

    def __post_init__(self) -> None:
        if self.number < 1 or self.side < 1:
            raise ValueError(f"stage.windows needs a number and a side of at least 1, got {self.number}, {self.side}")

    def __call__(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Windows of a batch.

        Args:
            labels: (B, H, W) int64 in [0, K) or 255.
            generator: draws them, on the CPU.

        Returns:
            labels (number, side, side) int64 in [0, K) or 255.

        Raises:
            ValueError: if a window does not fit into the label maps.
        """
        if self.side > min(labels.shape[-2:]):
            raise ValueError(
                f"stage.windows.side={self.side} is larger than label maps of {labels.shape[-2]}x{labels.shape[-1]}: "
                "choose a smaller side, or a larger data.size"
            )
        step = max(self.side // POSITIONS, 1)
        density = nn.functional.avg_pool2d(touches_another(labels, CROSS).float()[:, None], self.side, step)[:, 0].cpu()
        pull = density.flatten() / density.sum().clamp(min=torch.finfo(density.dtype).tiny)
        pull = (1 - EVENLY) * pull + EVENLY / pull.numel()
        drawn = torch.multinomial(pull, self.number, replacement=True, generator=generator)
        places = zip(*(index.tolist() for index in torch.unravel_index(drawn, density.shape)), strict=True)
        return torch.stack(
            [
                labels[picture, row * step : row * step + self.side, column * step : column * step + self.side]
                for picture, row, column in places
            ]
        )
