"""Nearest colour as a look-up: the answer for each of the 2^24 8-bit colours is computed once per palette."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor

SIDE = 32  # the colour cube is scored in cells of this side: few colours compete in each, and memory is bounded
BLOCK = 4  # side of a block, within which most colours have one and the same answer; as bits:
BITS = 2
CHUNK = 1 << 15  # pixels looked up at once on a CPU: their steps stay in its cache


class BlockTable(NamedTuple):
    """Answers by block of 4x4x4 colours: `block` (64^3,) int32 names a row of `answers` (N * 64,) uint8 or int16."""

    block: Tensor
    answers: Tensor

    def to(self, device: torch.device) -> BlockTable:
        """The same table on a device."""
        return BlockTable(self.block.to(device), self.answers.to(device))


class NearestColourTable:
    """argmin_k |x - colour_k|^2 for 8-bit colours x, in two gathers per pixel.

    The published decoder builds (B, K, 3, H, W) differences per picture. A table of all answers would take 16 MiB; but
    where one colour is nearest to a whole block of 4x4x4, its answer is stored once for all such blocks: 4 MiB remain
    for 150 colours that lie far apart. The table is built at the first call.

    Args:
        colours: (M, 3) float in [0, 1].
    """

    def __init__(self, colours: Tensor) -> None:
        self.colours = colours
        self._table: BlockTable | None = None

    @property
    def num_bytes(self) -> int:
        """What the table holds in memory, in bytes; it is built for that if need be."""
        self._table = self._table or self._build()
        return sum(part.numel() * part.element_size() for part in self._table)

    def __call__(self, maskige: Tensor) -> Tensor:
        """Row of the nearest colour for every pixel.

        Args:
            maskige: (B, 3, H, W) float in [0, 1]; rounded to 8 bits, values outside are clipped.

        Returns:
            (B, H, W) int64 in [0, M); of equally near colours the first.
        """
        self._table = self._table or self._build()
        if self._table.block.device != maskige.device:
            self._table = self._table.to(maskige.device)
        rows = torch.empty(maskige[:, 0].shape, dtype=torch.int64, device=maskige.device)
        chunk = CHUNK if maskige.device.type == "cpu" else maskige[0, 0].numel()
        for picture, found in zip(maskige.flatten(2), rows.flatten(1), strict=True):
            for pixels, part in zip(picture.split(chunk, dim=1), found.split(chunk), strict=True):
                part.copy_(_look_up(pixels, self._table))
        return rows

    def _build(self) -> BlockTable:
        """Scores the cube cell by cell; in each only those colours compete that can be nearest somewhere in it."""
        colours = (self.colours.detach().double().cpu() * 255).float()
        kind = torch.uint8 if len(colours) <= 256 else torch.int16
        # |x - c|^2 without |x|^2, which is the same for every colour; whole numbers below 2^24, so exact
        offsets, steps = colours.square().sum(1), torch.arange(float(SIDE))
        inside = torch.cartesian_prod(steps, steps, steps)
        block = torch.empty([256 // SIDE, SIDE // BLOCK] * 3, dtype=torch.int32)
        answers, num_blocks = [torch.arange(len(colours), dtype=kind)[:, None].expand(-1, BLOCK**3)], len(colours)
        for cell in itertools.product(range(256 // SIDE), repeat=3):
            low = torch.tensor(cell) * float(SIDE)
            rows = _rivals(colours, low, low + SIDE - 1)
            with torch.autocast("cpu", enabled=False):
                nearest = torch.addmm(offsets[rows], inside + low, colours[rows].T, alpha=-2).argmin(1)
            found = _blocks(rows[nearest])
            mixed = (found != found[:, :1]).any(1)
            number = torch.where(mixed, num_blocks - 1 + mixed.cumsum(0), found[:, 0])
            block[cell[0], :, cell[1], :, cell[2], :] = number.view([SIDE // BLOCK] * 3).to(block.dtype)
            answers.append(found[mixed].to(kind))
            num_blocks += len(answers[-1])
        return BlockTable(block.flatten(), torch.cat(answers).flatten())


def _look_up(pixels: Tensor, table: BlockTable) -> Tensor:
    """Answers of (3, N) float in [0, 1]: (N,) of the table's dtype."""
    eight_bit = (pixels.float() * 255).round_().clamp_(0, 255).to(torch.uint8)
    coarse, fine = (eight_bit >> BITS).int(), eight_bit & (BLOCK - 1)
    inside = fine[2].add(fine[1], alpha=BLOCK).add_(fine[0], alpha=BLOCK**2)
    side = 256 // BLOCK
    blocks = table.block.index_select(0, coarse[2].add(coarse[1], alpha=side).add_(coarse[0], alpha=side**2))
    return table.answers.index_select(0, blocks.mul_(BLOCK**3).add_(inside))


def _blocks(rows: Tensor) -> Tensor:
    """The answers of one cell (32^3,) as rows of blocks, (8^3, 4^3) of the same dtype."""
    count = SIDE // BLOCK
    return rows.view([count, BLOCK] * 3).permute(0, 2, 4, 1, 3, 5).reshape(count**3, BLOCK**3)


def _rivals(colours: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Rows (R,) int64 of colours (M, 3) that can be nearest to a point of the box from `low` to `high`, both (3,)."""
    least = (colours - colours.clamp(low, high)).square().sum(1)
    most = torch.maximum((colours - low).abs(), (colours - high).abs()).square().sum(1)
    return (least <= most.min()).nonzero()[:, 0]
