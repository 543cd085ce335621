"""What a training costs: seconds by the wall clock, and the parameters that an optimiser moved."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch.optim import Optimizer


class Effort:
    """Adds up over the fits of a run: the dictionary of a tokenizer, its training, whatever is trained after it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._timing = False
        self._sizes: dict[int, int] = {}

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Adds the seconds that the block takes, once where one block lies within another."""
        outermost, start = not self._timing, time.perf_counter()
        self._timing = True
        try:
            yield
        finally:
            if outermost:
                self._timing = False
                self.seconds += time.perf_counter() - start

    def count(self, optimizers: Iterable[Optimizer]) -> None:
        """Adds the parameters of these optimisers, each one once; codes that follow moving averages are none."""
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                self._sizes |= {id(parameter): parameter.numel() for parameter in group["params"]}

    @property
    def trained_parameters(self) -> int:
        """Numbers that were trained by gradient."""
        return sum(self._sizes.values())

    def figures(self) -> dict[str, float]:
        """`trained_parameters` (a whole number) and `seconds`, as a run's result gives them."""
        return {"trained_parameters": self.trained_parameters, "seconds": self.seconds}
