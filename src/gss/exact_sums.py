"""Sums of fractions that do not depend on their order, so that several processes come to the bits of one."""

from __future__ import annotations

import torch
from torch import Tensor

UNIT = 2.0**-24
"""The fraction that is counted: the step of float32 between 1/2 and 1. Each summand is rounded to whole units."""


def to_units(values: Tensor) -> Tensor:
    """Values (N,) float as whole units, (N,) float64: an int64 holds the sum of 2^39 of them that are at most 1."""
    return (values.double() / UNIT).round()


def sum_of_units(values: Tensor) -> Tensor:
    """The sum of values (N,) float in whole units, a scalar int64; exact for up to 2^29 values below 16 at a time."""
    return to_units(values).sum().long()


def mean_of_units(units: Tensor, count: Tensor) -> Tensor:
    """Mean (...) float64 of sums in units (...) int64 over counts (...) int64; nan where nothing was counted."""
    return units.double() * UNIT / count


def count_by(places: Tensor, num_places: int, values: Tensor) -> Tensor:
    """Sums (P,) int64 in whole units of values (N,) float by their places (N,) int64 in [0, P)."""
    return torch.bincount(places, weights=to_units(values), minlength=num_places).long()
