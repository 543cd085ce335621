"""Colour choice: one colour per class, as far apart as possible, and one more for ignored pixels.

The paper's *maximal distance assumption*: the rows of beta, one colour per class, are placed far apart in
RGB so that a noisy maskige still decodes to the right class.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

GRID_LEVELS = 18  # 0, 15, ..., 255: every colour is a whole 8-bit value, so a PNG keeps it exactly


@dataclass(frozen=True)
class Palette:
    """The colours of a maskige.

    Args:
        colours: (K, 3) float32 in [0, 1], one row per class (beta in the paper).
        ignore_colour: (3,) float32 in [0, 1], painted where the labels are 255.
    """

    colours: Tensor
    ignore_colour: Tensor

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.colours)

    def min_distance(self) -> float:
        """Smallest distance between two colours, the ignore colour included, on the 0-255 scale."""
        every = torch.cat([self.colours, self.ignore_colour[None]]).double() * 255
        return float(torch.pdist(every).min())


def max_distance_palette(num_classes: int) -> Palette:
    """Greedy farthest-point colours on an 18-level RGB grid, starting from black, which is kept for ignored pixels.

    Each next colour is the grid point whose nearest chosen colour is farthest away (Gonzalez, 1985), so the result is
    deterministic and a palette of K classes begins with the palette of K - 1.

    Args:
        num_classes: K, from 1 to 5831 (the grid points but black).

    Raises:
        ValueError: if `num_classes` lies outside that range.
    """
    grid = _colour_grid()
    if not 1 <= num_classes < len(grid):
        raise ValueError(
            f"a palette holds 1 to {len(grid) - 1} classes, got {num_classes}: check data.label_space.names"
        )
    chosen = [0]
    nearest = torch.full((len(grid),), torch.inf, dtype=grid.dtype)
    while len(chosen) <= num_classes:
        nearest = torch.minimum(nearest, (grid - grid[chosen[-1]]).square().sum(1))
        chosen.append(int(nearest.argmax()))
    colours = (grid[chosen] / 255).float()
    return Palette(colours=colours[1:], ignore_colour=colours[0])


def _colour_grid() -> Tensor:
    """Colours to choose from, (18^3, 3) float64 in whole 8-bit units from 0 to 255; the first is black."""
    levels = torch.linspace(0, 255, GRID_LEVELS, dtype=torch.float64)
    return torch.cartesian_prod(levels, levels, levels)


PALETTES = {"max_distance": max_distance_palette}
