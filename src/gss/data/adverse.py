"""Adverse: a split seen again under drawn weather and camera faults, where no photographs of such are at hand.

The idea of kinds at graded strengths is that of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to
Common Corruptions and Perturbations" (ICLR 2019): a network that never saw them is scored on each.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gss.data.degradations import KINDS, STRENGTHS, degradation
from gss.data.pairs import Pair

CLEAN = "clean"


@dataclass(frozen=True)
class Adverse:
    """Serves each photograph once as it is (condition `clean`) and once per kind and strength (`fog-1`).

    What is drawn on a photograph depends on its name, kind, strength and `seed` only, so that every network, worker
    and process is shown the same picture in whatever order. Labels stay as they are.

    Args:
        kinds: of degradation, from `gss.data.degradations.KINDS`.
        strengths: from 1, mild, to 3, severe.
        seed: of what is drawn.

    Raises:
        ValueError: a kind or strength is unknown, named twice, or none is given.
    """

    kinds: Sequence[str] = tuple(KINDS)
    strengths: Sequence[int] = STRENGTHS
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the words; YAML lists become tuples."""
        object.__setattr__(self, "kinds", _each_once("kinds", self.kinds))
        object.__setattr__(self, "strengths", _each_once("strengths", self.strengths))
        for kind in self.kinds:
            if kind not in KINDS:
                near = difflib.get_close_matches(str(kind), KINDS, cutoff=0.5)
                hint = f"nearest: {', '.join(near)}" if near else f"there are: {', '.join(KINDS)}"
                raise ValueError(f"unknown kind '{kind}' in data.adverse.kinds; {hint}")
        for strength in self.strengths:
            if type(strength) is not int or strength not in STRENGTHS:  # `type`: True is no strength
                raise ValueError(f"strength {strength!r} in data.adverse.strengths is none of 1 (mild), 2, 3 (severe)")
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(f"seed must be a whole number of at least 0, got {self.seed!r}; mend data.adverse.seed")

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of all conditions, `clean` first, in the order in which they are served."""
        return (CLEAN, *(f"{kind}-{strength}" for kind in self.kinds for strength in self.strengths))

    def pairs(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Repeat a split under every condition, condition by condition.

        Raises:
            ValueError: the photographs have conditions already.
        """
        if named := next((pair for pair in pairs if pair.condition), None):
            raise ValueError(
                f"'{named.image}' is a photograph of the condition '{named.condition}' already: data.adverse degrades "
                "photographs without conditions; set data.adverse=null"
            )
        return [pair._replace(condition=condition) for condition in self.conditions for pair in pairs]

    def degrade(self, image: NDArray[np.uint8], pair: Pair) -> NDArray[np.uint8]:
        """Bring a photograph into the condition of its pair.

        Args:
            image: (H, W, 3) uint8 RGB at its own size; stays unchanged.
            pair: its name and condition.

        Returns:
            (H, W, 3) uint8 RGB.
        """
        if pair.condition == CLEAN:
            return image
        kind, _, strength = pair.condition.rpartition("-")
        pipeline = degradation(kind, int(strength), (image.shape[0], image.shape[1]))
        pipeline.set_random_seed(degradation_seed(self.seed, pair.name, pair.condition))
        return np.asarray(pipeline(image=image)["image"], dtype=np.uint8)


def degradation_seed(seed: int, name: str, condition: str) -> int:
    """Mix the seed with a photograph's name and condition into 32 bits, alike on every machine and in every process."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{condition}/{name}".encode()).digest()[:4], "big")


def _each_once(key: str, values: Sequence[Any]) -> tuple[Any, ...]:
    """Refuse an empty list and repetitions."""
    twice = next((value for value in values if list(values).count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"data.adverse.{key} names {twice!r} more than once; leave one of them out")
    if not values:
        raise ValueError(f"data.adverse.{key} is empty; name at least one, or set data.adverse=null")
    return tuple(values)
