"""Nearest colour as a look-up: the answer for each of the 2^24 8-bit colours is computed once per palette."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

SIDE = 32  # the colour cube is scored in cells of this side: few colours compete in each, and memory is bounded


class NearestColourTable:
    """argmin_k |x - colour_k|^2 for 8-bit colours x, in one gather per pixel.

    The published decoder builds (B, K, 3, H, W) differences per picture; the table costs 16 MiB once (32 MiB above 256
    colours) and one index per pixel. The table is built at the first call.

    Args:
        colours: (M, 3) float in [0, 1].
    """

    def __init__(self, colours: Tensor) -> None:
        self.colours = colours
        self._table: Tensor | None = None

    def __call__(self, maskige: Tensor) -> Tensor:
        """Row of the nearest colour for every pixel.

        Args:
            maskige: (B, 3, H, W) float in [0, 1]; rounded to 8 bits, values outside are clipped.

        Returns:
            (B, H, W) int64 in [0, M); of equally near colours the first.
        """
        if self._table is None or self._table.device != maskige.device:
            self._table = self._build().to(maskige.device)
        eight_bit = (maskige.float() * 255).round_().clamp_(0, 255).int()
        red, green, blue = eight_bit.unbind(1)
        codes = (red << 16) | (green << 8) | blue
        return self._table.index_select(0, codes.flatten()).view(codes.shape).long()

    def _build(self) -> Tensor:
        """Nearest row by 24-bit colour, (2^24,) uint8, or int16 above 256 colours.

        In each cell of the cube only those colours compete that can be nearest somewhere in it.
        """
        colours = (self.colours.detach().double().cpu() * 255).float()
        table = torch.empty([256 // SIDE, SIDE] * 3, dtype=torch.uint8 if len(colours) <= 256 else torch.int16)
        # |x - c|^2 without |x|^2, which is the same for every colour; whole numbers below 2^24, so exact
        offsets, steps = colours.square().sum(1), torch.arange(float(SIDE))
        inside = torch.cartesian_prod(steps, steps, steps)
        for cell in itertools.product(range(256 // SIDE), repeat=3):
            low = torch.tensor(cell) * float(SIDE)
            rows = _rivals(colours, low, low + SIDE - 1)
            with torch.autocast("cpu", enabled=False):
                nearest = torch.addmm(offsets[rows], inside + low, colours[rows].T, alpha=-2).argmin(1)
            table[cell[0], :, cell[1], :, cell[2], :] = rows[nearest].view(SIDE, SIDE, SIDE).to(table.dtype)
        return table.flatten()


def _rivals(colours: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Rows (R,) int64 of colours (M, 3) that can be nearest to a point of the box from `low` to `high`, both (3,)."""
    least = (colours - colours.clamp(low, high)).square().sum(1)
    most = torch.maximum((colours - low).abs(), (colours - high).abs()).square().sum(1)
    return (least <= most.min()).nonzero()[:, 0]
