"""Nearest colour as a look-up: the answer for each of the 2^24 8-bit colours is computed once per palette."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 1 << 18  # colours scored at once while the table is built: bounds its memory


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
        return self._table[(red << 16) | (green << 8) | blue].long()

    def _build(self) -> Tensor:
        colours = (self.colours.detach().double().cpu() * 255).float()
        dtype = torch.uint8 if len(colours) <= 256 else torch.int16
        table = torch.empty(1 << 24, dtype=dtype)
        # |x - c|^2 without |x|^2, which is the same for every colour
        offsets = colours.square().sum(1)
        for start in range(0, len(table), CHUNK):
            codes = torch.arange(start, start + CHUNK)
            x = torch.stack([codes >> 16, (codes >> 8) & 255, codes & 255], dim=1).float()
            table[start : start + CHUNK] = torch.addmm(offsets, x, colours.T, alpha=-2).argmin(1).to(dtype)
        return table
