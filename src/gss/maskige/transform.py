"""X and its exact inverse: labels painted with the palette, and read back by nearest colour."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gss.labels import IGNORE
from gss.maskige.nearest import NearestColourTable
from gss.maskige.palette import Palette


class MaskigeTransform(nn.Module):
    """Paints labels as a maskige and reads a maskige back as labels.

    `unpaint(paint(labels)) == labels` holds exactly, ignored pixels included.

    Args:
        palette: `colours` (K, 3) and `ignore_colour` (3,), float32 in [0, 1]; both are kept as buffers, so they travel
            with the weights.
    """

    colours: Tensor
    ignore_colour: Tensor

    def __init__(self, palette: Palette) -> None:
        super().__init__()
        self.register_buffer("colours", palette.colours.clone())
        self.register_buffer("ignore_colour", palette.ignore_colour.clone())
        self._tables: dict[bool, NearestColourTable] = {}

    def paint(self, labels: Tensor) -> Tensor:
        """X(labels): each pixel gets the colour of its class.

        Args:
            labels: (B, H, W) int64 in [0, K) or 255.

        Returns:
            maskige (B, 3, H, W) float32 in [0, 1].
        """
        table = torch.cat([self.colours, self.ignore_colour[None]])
        rows = torch.where(labels == IGNORE, len(self.colours), labels)
        return table[rows].movedim(-1, 1).contiguous()

    def unpaint(self, maskige: Tensor, with_ignore: bool = True) -> Tensor:
        """Labels by nearest colour, looked up in a table over all 8-bit colours.

        Args:
            maskige: (B, 3, H, W) float in [0, 1]; values outside are clipped.
            with_ignore: whether the ignore colour competes (255); a generated maskige is read without it.

        Returns:
            labels (B, H, W) int64 in [0, K), or 255 where the ignore colour is nearest.
        """
        if with_ignore not in self._tables:
            colours = torch.cat([self.colours, self.ignore_colour[None]]) if with_ignore else self.colours
            self._tables[with_ignore] = NearestColourTable(colours)
        rows = self._tables[with_ignore](maskige)
        return torch.where(rows == len(self.colours), IGNORE, rows)

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._tables.clear()  # they were built for the colours before
