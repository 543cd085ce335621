"""Colour choice: one colour per class and one more for ignored pixels, which is black.

The paper's *maximal distance assumption*: the rows of beta, one colour per class, are placed far apart in
RGB so that a noisy maskige still decodes to the right class.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gss.labels import LabelSpace
from gss.maskige.repulsion import spread_colours

MAX_CLASSES = 511  # 8 levels per channel would hold as many; their closest pair is 36 apart
NUM_CODES = 2**24  # 8-bit colours


@dataclass(frozen=True)
class Palette:
    """The colours of a maskige.

    Args:
        colours: (K, 3) float32 in [0, 1], one row per class (beta in the paper).
        ignore_colour: (3,) float32 in [0, 1], painted where the labels are 255.
    """

    colours: Tensor
    ignore_colour: Tensor

    @classmethod
    def from_8_bit(cls, colours: Tensor) -> Palette:
        """A palette with black for ignored pixels, of colours (K, 3) of any dtype, whole values from 0 to 255."""
        return cls((colours.double() / 255).float(), torch.zeros(3))

    @classmethod
    def blank(cls, num_classes: int) -> Palette:
        """All black, to be filled from a file."""
        return cls.from_8_bit(torch.zeros(num_classes, 3))

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.colours)

    def every_8_bit(self) -> Tensor:
        """The K class colours and then the ignore colour, (K + 1, 3) int64 from 0 to 255."""
        return (torch.cat([self.colours, self.ignore_colour[None]]).detach().double() * 255).round().long()

    def closest_pair(self) -> tuple[int, int, float]:
        """The two colours that are least apart, as rows of `every_8_bit`, and their distance on the 0-255 scale."""
        colours = self.every_8_bit().double()
        distances = torch.cdist(colours, colours, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(math.inf)
        first, second = divmod(int(distances.argmin()), len(colours))
        return first, second, float(distances[first, second])

    def min_distance(self) -> float:
        """Smallest distance between two colours, the ignore colour included, on the 0-255 scale."""
        return self.closest_pair()[2]

    def check(self, num_classes: int) -> None:
        """Refuses a palette that cannot be read back as labels.

        Raises:
            ValueError: if it has not K colours, or two of its colours are the same 8-bit colour.
        """
        if self.num_classes != num_classes:
            raise ValueError(f"maskige.palette has {self.num_classes} colours for {num_classes} classes")
        first: dict[tuple[int, ...], int] = {}
        colours = [tuple(colour) for colour in self.every_8_bit().tolist()]
        for number, colour in enumerate(colours[:-1]):
            if colour == colours[-1]:
                raise ValueError(f"maskige.palette gives class {number} the colour {colour} of ignored pixels")
            if colour in first:
                raise ValueError(f"maskige.palette gives classes {first[colour]} and {number} the same colour {colour}")
            first[colour] = number


def max_distance_palette(num_classes: int, seed: int = 0) -> Palette:
    """Colours pushed apart from a greedy choice and random starts, in the order farthest first.

    Args:
        num_classes: K, from 1 to 511.
        seed: of the random starts.

    Raises:
        ValueError: if `num_classes` lies outside that range.
    """
    if not 1 <= num_classes <= MAX_CLASSES:
        raise ValueError(
            f"maskige.palette=max_distance separates 1 to {MAX_CLASSES} classes, got {num_classes}: "
            "check data.label_space.names"
        )
    return Palette.from_8_bit(torch.from_numpy(spread_colours(num_classes + 1, seed)[1:].copy()))


def random_palette(num_classes: int, seed: int = 0) -> Palette:
    """Colours drawn from all 8-bit colours but black, none twice (the paper's FF-R).

    Args:
        num_classes: K, at least 1.
        seed: of the draw.

    Raises:
        ValueError: if there are fewer colours than classes.
    """
    if not 1 <= num_classes < NUM_CODES:
        raise ValueError(f"maskige.palette=random colours 1 to {NUM_CODES - 1} classes, got {num_classes}")
    codes = torch.tensor(random.Random(seed).sample(range(1, NUM_CODES), num_classes))
    return Palette.from_8_bit(torch.stack([codes >> 16, codes >> 8 & 255, codes & 255], dim=1))


def dataset_palette(label_space: LabelSpace) -> Palette:
    """The display colours of the data set.

    Raises:
        ValueError: if two classes share a colour, or one is black as ignored pixels are.
    """
    palette = Palette.from_8_bit(torch.tensor(label_space.colours))
    try:
        palette.check(label_space.num_classes)
    except ValueError as error:
        raise ValueError(f"{error}: mend data.label_space.colours, or choose another maskige.palette") from error
    return palette


PALETTES: dict[str, Callable[[LabelSpace, int], Palette]] = {
    "max_distance": lambda label_space, seed: max_distance_palette(label_space.num_classes, seed),
    "random": lambda label_space, seed: random_palette(label_space.num_classes, seed),
    "dataset": lambda label_space, seed: dataset_palette(label_space),
    "learned": lambda label_space, seed: max_distance_palette(label_space.num_classes, seed),  # where learning starts
}
