"""FiniteWatch: stops a training before the update that a loss or a gradient that is not finite would spoil."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain

import torch
from torch import Tensor, nn

from gss.stages.execution import gathered

REMEDY = (  # a resumed schedule keeps the learning rate that it was saved with
    "start anew with a lower optim.optimizer.lr, or go on from the last checkpoint, which is as it was, by resume=PATH "
    "and a lower optim.gradient_clip or hardware.precision=32-true"
)


class FiniteWatch:
    """Notes the loss of every batch of a step, and looks at them and at the gradients once the step is complete.

    Until then nothing is asked of the device, so the watch costs one pass over the gradients and one small transfer per
    step. All processes come to the same verdict.
    """

    def __init__(self) -> None:
        self._noted: list[tuple[Tensor, Callable[[], list[str]]]] = []
        self._before: tuple[list[str], Tensor] | None = None  # of the last finite step

    def note(self, loss: Tensor, names: Callable[[], list[str]]) -> None:
        """Keeps the loss (a scalar) of a batch, and how to learn what its images are called."""
        self._noted.append((loss.detach().float(), names))

    def check(self, gradients: Mapping[str, Tensor], step: int, skips_overflow: bool) -> None:
        """Looks at a step, all of whose losses are noted, before its update.

        Args:
            gradients: by parameter name, summed over batches and processes, neither scaled nor clipped.
            step: its number, from 1.
            skips_overflow: whether a scaler leaves out the update by itself where gradients overflow (float16).

        Raises:
            ValueError: naming the step, the images, the largest gradient and the remedy.
        """
        noted, self._noted = self._noted, []
        losses = torch.stack([loss for loss, _ in noted])
        norms = gradient_norms(gradients).to(losses.device)
        wrong = torch.stack([~losses.isfinite().all(), ~norms.isfinite().all()])
        of_loss, of_gradient = _on_any_process(wrong).tolist()
        if of_loss:
            found = [f"{loss.item()} with {', '.join(names())}" for loss, names in noted if not loss.isfinite()]
            told = "; ".join(chain.from_iterable(gathered(found)))
            raise ValueError(f"the loss of step {step} is {told} ({self._largest_before()}): {REMEDY}")
        if of_gradient and not skips_overflow:
            name = list(gradients)[int(norms.isfinite().int().argmin())]
            told = ", ".join(chain.from_iterable(gathered([name for _, names in noted for name in names()])))
            raise ValueError(
                f"the gradient of step {step} is not finite, first in {name}, with {told} "
                f"({self._largest_before()}): {REMEDY}"
            )
        if not of_gradient:
            self._before = (list(gradients), norms)

    def _largest_before(self) -> str:
        if self._before is None or not self._before[0]:
            return "there was no finite step before it"
        names, values = self._before
        value, place = values.max(dim=0)
        return f"the largest gradient of the last finite step has norm {value:.3g}, of {names[int(place)]}"


def gradients_of(module: nn.Module) -> dict[str, Tensor]:
    """The gradients that a module's parameters have, by name."""
    return {name: weight.grad for name, weight in module.named_parameters() if weight.grad is not None}


def gradient_norms(gradients: Mapping[str, Tensor]) -> Tensor:
    """The Euclidean norm of each gradient: (number of gradients,) float32.

    It is not finite where an entry is not, or where the entries' squares are too large for float32. On a CPU it is much
    cheaper than the largest entry.
    """
    if not gradients:
        return torch.zeros(0)
    norms = torch._foreach_norm(list(gradients.values()), 2)
    return torch.stack([norm.float() for norm in norms])


def _on_any_process(flags: Tensor) -> Tensor:
    """Flags (n,) bool as int32, set where any process set them."""
    flags = flags.int()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
    return flags
