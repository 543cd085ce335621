"""The training step of the head, from the pyramid to the loss and back, against the published formulation.

Both ways hold the same weights (published sizes: levels of 384, fused map of 512, two window blocks with 16 heads and
windows of 7, hidden layer of 2048, 8192 tokens), get the same pyramid of Swin-L's widths, which wants gradients as it
does under a backbone that trains, and give gradients to all of them. The published form concatenates the levels on the
token grid, keeps everything for the backward pass, and holds all scores: logits (B, V, h, w), resized to the grid as
the release does, then cross-entropy averaged over all positions. Every cell counts, so both average over the same.

What a step holds is counted from before the forward pass: the gradients of weights and pyramid count on both sides,
weights and pyramid on neither.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.harness import FULL, Effort, Row, peak_memory, time_in_turn
from gss.networks.fusion import MultiLevelAggregation
from gss.networks.heads import BilinearPixelHead, FreeTokenHead, TiedTokenHead, TokenHead
from gss.objectives.divergence import token_divergence
from gss.objectives.targets import TokenTargets

WIDTHS = (192, 384, 768, 1536)  # of Swin-L's levels, at strides 4, 8, 16 and 32
VOCAB_SIZE, BATCH = 8192, 2
GRID, QUICK_GRID, SMALL_GRID = 64, 8, 4  # side of the token grid: timed, quick, compared in double precision
NUM_CLASSES, STRIDE = 19, 8  # of the dictionary of the lean head
MOST = Effort(warm_up=1, repeats=5)  # a step takes some 20 seconds
TIME_BAR, MEMORY_BAR, TORCH_BAR = 1 / 0.8, 4.0, 1.0
OPTIONS = getattr(torch.nn, "LinearCrossEntropyOptions", None)  # of torch's own chunked loss, from 2.15 on


def measure(effort: Effort) -> list[Row]:
    """Time and memory of the paper's head and of the lean one, and of the former against torch's own chunked loss."""
    torch.manual_seed(0)
    fusion = MultiLevelAggregation(WIDTHS, checkpointing=True)
    free = FreeTokenHead(512, VOCAB_SIZE)
    _compare(fusion, free)
    side = GRID if effort.repeats >= FULL.repeats else QUICK_GRID
    effort = Effort(min(effort.warm_up, MOST.warm_up), min(effort.repeats, MOST.repeats))
    case, (pixel, lean) = Case.draw(side, torch.float32), lean_heads()
    other = Step(case, [fusion, free], lambda: published_loss(fusion, free, case))
    ours = Step(case, [fusion, free], lambda: our_loss(fusion, free, case))
    leaner = Step(case, [fusion, pixel, lean], lambda: our_loss(fusion, lean, case, pixel))
    torch.testing.assert_close(ours.take(), other.take(), rtol=1e-4, atol=0.0)
    rows = [
        *_rows("head_step", ours, other, (TIME_BAR, MEMORY_BAR), effort),
        *_rows("head_step_lean", leaner, other, (TIME_BAR, MEMORY_BAR), effort),
    ]
    if OPTIONS is not None:
        chunked = Step(case, [fusion, free], lambda: torch_loss(fusion, free, case))
        torch.testing.assert_close(chunked.take(), other.take(), rtol=1e-4, atol=0.0)
        rows += _rows("head_step_torch", ours, chunked, (TORCH_BAR, TORCH_BAR), effort)
    return rows


@dataclass(frozen=True)
class Case:
    """What a step is given.

    Args:
        pyramid: levels (B, C_i, h / 2^i, w / 2^i) float that want gradients.
        tokens: (B, h, w) int64 in [0, V).
    """

    pyramid: list[Tensor]
    tokens: Tensor

    @classmethod
    def draw(cls, side: int, dtype: torch.dtype) -> Case:
        """Random features and tokens on a square grid."""
        sides = [max(1, side >> level) for level in range(len(WIDTHS))]
        levels = [torch.randn(BATCH, width, s, s, dtype=dtype) for width, s in zip(WIDTHS, sides, strict=True)]
        return cls([level.requires_grad_() for level in levels], torch.randint(VOCAB_SIZE, (BATCH, side, side)))

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the tokens."""
        return self.tokens.shape[1], self.tokens.shape[2]


@dataclass(frozen=True)
class Step:
    """A loss and its gradients, which begin at none.

    Args:
        case: the pyramid gets gradients.
        modules: whose weights get gradients.
        loss: scalar float.
    """

    case: Case
    modules: Sequence[nn.Module]
    loss: Callable[[], Tensor]

    @property
    def wanted(self) -> list[Tensor]:
        """All that get gradients."""
        return [*self.case.pyramid, *(weight for module in self.modules for weight in module.parameters())]

    def clear(self) -> None:
        """Lets the gradients go."""
        for each in self.wanted:
            each.grad = None

    def take(self) -> Tensor:
        """One step; its loss, scalar float."""
        self.clear()
        loss = self.loss()
        loss.backward()
        return loss.detach()


def our_loss(
    fusion: MultiLevelAggregation, head: TokenHead, case: Case, pixel: BilinearPixelHead | None = None
) -> Tensor:
    """Fusion, head and divergence as `stage=conditioning` puts them together; scalar float."""
    features = fusion(case.pyramid, case.grid)
    scores = head(features, features if pixel is None else pixel(features, case.pyramid))
    return token_divergence(scores, TokenTargets(case.tokens, torch.ones_like(case.tokens, dtype=torch.bool)))


def published_loss(fusion: MultiLevelAggregation, head: FreeTokenHead, case: Case) -> Tensor:
    """The release's decode head and loss, plainly; scalar float."""
    levels = [_resized(conv(level), case.grid) for conv, level in zip(fusion.levels, case.pyramid, strict=True)]
    fused = fusion.fuse(torch.cat(levels, dim=1)).movedim(1, -1).contiguous()
    prior_logits = head.scores(head.hidden(fusion.norm(fusion.blocks(fused)).movedim(-1, 1)))
    prior_logits = _resized(prior_logits, case.grid)
    loss = nn.functional.cross_entropy(prior_logits, case.tokens, reduction="none", ignore_index=VOCAB_SIZE)
    return loss.mean()


def torch_loss(fusion: MultiLevelAggregation, head: FreeTokenHead, case: Case) -> Tensor:
    """Our fusion, the hidden layer carried out, and torch's own chunked linear cross-entropy; scalar float."""
    assert OPTIONS is not None
    cells = head.hidden(fusion(case.pyramid, case.grid)).movedim(1, -1).flatten(0, 2)
    weight, bias = head.scores.weight.flatten(1), head.scores.bias
    loss = torch.nn.functional.linear_cross_entropy(
        cells, weight, case.tokens.flatten(), linear_bias=bias, options=OPTIONS()
    )
    return torch.as_tensor(loss)


def lean_heads() -> tuple[BilinearPixelHead, TiedTokenHead]:
    """The tied head on random patches, and the pixel head whose scores are part of its evidence."""
    codes = torch.randn(VOCAB_SIZE, NUM_CLASSES, STRIDE, STRIDE).mul_(4).softmax(dim=1)
    log_frequency = torch.full((VOCAB_SIZE,), -math.log(VOCAB_SIZE))
    pixel = BilinearPixelHead(512, NUM_CLASSES, STRIDE)
    return pixel, TiedTokenHead(512, codes, log_frequency, pixel_evidence=True)


def _resized(features: Tensor, grid: tuple[int, int]) -> Tensor:
    return nn.functional.interpolate(features, size=grid, mode="bilinear", align_corners=False)


def _compare(fusion: MultiLevelAggregation, head: FreeTokenHead) -> None:
    """Loss and gradients, in double precision: in single, a ReLU at the edge may fall on either side."""
    fusion.double()
    head.double()
    case = Case.draw(SMALL_GRID, torch.float64)
    losses = (lambda: our_loss(fusion, head, case)), (lambda: published_loss(fusion, head, case))
    ours, other = (Step(case, [fusion, head], loss) for loss in losses)
    value, made = ours.take(), [each.grad for each in ours.wanted]
    torch.testing.assert_close(value, other.take(), rtol=1e-6, atol=0.0)
    for gradient, each in zip(made, other.wanted, strict=True):
        torch.testing.assert_close(gradient, each.grad, rtol=1e-4, atol=1e-9)
    ours.clear()
    fusion.float()
    head.float()


def _rows(name: str, ours: Step, other: Step, bars: tuple[float, float], effort: Effort) -> list[Row]:
    time = time_in_turn(f"{name}_time", ours.take, other.take, bars[0], effort)
    return [time, Row(f"{name}_memory", (_peak(ours),), (_peak(other),), "MiB", bars[1])]


def _peak(step: Step) -> float:
    step.clear()
    held = peak_memory(step.take)
    step.clear()
    return held
