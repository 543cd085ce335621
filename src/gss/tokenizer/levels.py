"""Which grid of levels gives a vocabulary of exactly V codes, for finite scalar quantization."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import count

SMALLEST, LARGEST, FEW = 3, 16, 5  # of a dimension's levels; the quantizer has no grid of 2, and fewer than 5 lose most


def fsq_levels(vocab_size: int, levels: Sequence[int] | None = None) -> tuple[int, ...]:
    """Levels of each dimension, whose product is exactly the vocabulary size V.

    Without given levels, the factors of V from 3 to 16 are taken: as few below 5 as possible, then the smallest
    largest factor, then the fewest factors. So 1024 becomes (16, 8, 8), 1000 becomes (8, 5, 5, 5) and 240 (8, 6, 5).

    Args:
        vocab_size: V.
        levels: a choice of one's own, each from 3 on.

    Raises:
        ValueError: if V is no such product, naming the nearest sizes that are, or if the given levels are not V codes.
    """
    if levels is not None:
        if not levels or min(levels) < SMALLEST or math.prod(levels) != vocab_size:
            raise ValueError(
                f"tokenizer.levels={list(levels)} must be whole numbers from {SMALLEST} on with the product "
                f"tokenizer.vocab_size={vocab_size}, but their product is {math.prod(levels)}"
            )
        return tuple(levels)
    found = _best(vocab_size)
    if found is None:
        below = next((size for size in range(vocab_size - 1, SMALLEST - 1, -1) if _best(size)), None)
        above = next(size for size in count(max(vocab_size + 1, SMALLEST)) if _best(size))
        near = " or ".join(str(size) for size in (below, above) if size is not None)
        raise ValueError(
            f"tokenizer.vocab_size={vocab_size} is no product of levels from {SMALLEST} to {LARGEST}, which "
            f"tokenizer.quantizer=fsq needs: choose {near}, or give tokenizer.levels"
        )
    return found


def _best(vocab_size: int) -> tuple[int, ...] | None:
    return min(_products(vocab_size, LARGEST), key=_rank, default=None) if vocab_size >= SMALLEST else None


def _rank(levels: tuple[int, ...]) -> tuple[int, int, int]:
    return sum(level < FEW for level in levels), levels[0], len(levels)


def _products(product: int, largest: int) -> Iterator[tuple[int, ...]]:
    """Every way to write a number as a falling product of levels up to the largest."""
    if product == 1:
        yield ()
    for level in range(min(largest, product), SMALLEST - 1, -1):
        if product % level == 0:
            yield from ((level, *rest) for rest in _products(product // level, level))
