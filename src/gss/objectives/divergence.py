"""KL(q(z | labels) || p(z | image)), the second term of the ELBO, without ever holding all scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gss.networks.token_scores import TokenScores, cells_at_a_time, hidden_layer
from gss.objectives.targets import TokenTargets
from gss.tokenizer.base import full_precision


def token_divergence(
    scores: TokenScores, targets: TokenTargets, token_weights: Tensor | None = None, focal: float = 0.0
) -> Tensor:
    """Mean divergence per valid token, in nats.

    A one-hot posterior has no entropy, so its divergence is the cross-entropy of the token. The released code divides
    by all positions; here the mean runs over the valid ones, so ignored area does not shrink the step.

    Args:
        scores: of B x h x w cells.
        targets: the posterior of the same cells.
        token_weights: (V,) float32, what a cell of each token counts; None: all the same.
        focal: gamma of (1 - exp(-KL))^gamma, the factor by which cells that are right already count less (Lin et al.,
            ICCV 2017); 0: none.

    Returns:
        Scalar float32; 0 where no token is valid.

    Raises:
        ValueError: if a token lies outside [0, V).
    """
    return focal_divergence(scores, targets, token_weights, focal)[0]


def focal_divergence(
    scores: TokenScores, targets: TokenTargets, token_weights: Tensor | None, focal: float
) -> tuple[Tensor, Tensor]:
    """What `token_divergence` gives, and beside it, for the log and without gradients, what it is with `focal` 0.

    The arguments are the same; both are scalars float32.
    """
    found, vocab_size = targets.tokens, scores.vocab_size
    if found.numel() and not 0 <= int(found.min()) <= int(found.max()) < vocab_size:
        raise ValueError(
            f"tokens reach from {int(found.min())} to {int(found.max())}, outside the vocabulary of {vocab_size}: "
            "the prior and the conditioning network differ, train stage=conditioning with the same prior=PATH"
        )
    valid = targets.token_valid.flatten().nonzero()[:, 0]
    tokens = targets.tokens.flatten()[valid]
    candidates, shares = (part.flatten(0, 2)[valid] for part in (targets.candidates, targets.shares))
    if scores.vocabulary is not None:
        candidates, shares = _merged(scores.vocabulary.rows[candidates], shares)
    counts = shares.new_ones(len(tokens)) if token_weights is None else token_weights[tokens]
    cells = _Cells(valid, candidates, shares, counts, focal)
    parameters = (scores.weight, scores.bias, *(scores.hidden or ()))
    total, plain = _ChunkedDivergence.apply(cells, scores.features.flatten(0, 2), *parameters)
    return total / max(len(valid), 1), plain / max(len(valid), 1)


@dataclass(frozen=True)
class _Cells:
    """What the loss asks of cells that count.

    Args:
        index: (n,) int64, where they lie among all.
        candidates: (n, k) int64, rows of the head that the posterior gives a share.
        shares: (n, k) float32, sums to 1 over k.
        counts: (n,) float32, the weight of each cell.
        focal: gamma.
    """

    index: Tensor
    candidates: Tensor
    shares: Tensor
    counts: Tensor
    focal: float

    def split(self, size: int) -> Iterator[_Cells]:
        """So many at a time."""
        fields = (self.index, self.candidates, self.shares, self.counts)
        for index, candidates, shares, counts in zip(*(field.split(size) for field in fields), strict=True):
            yield _Cells(index, candidates, shares, counts, self.focal)


class _ChunkedDivergence(torch.autograd.Function):
    """Sum over cells of count x factor(KL) x KL; gradients are made beside it, chunk by chunk.

    With p the softmax of a cell's scores, dKL/dscores = p - q, so one chunk of scores serves value and gradient. A
    chunk lies rows first, (R, n): the products with the weight (R, D) are a tenth faster so on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, cells: _Cells, features: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The sum, and the sum without factors, scalars float32.

        Args:
            ctx: keeps the gradients.
            cells: those that count.
            features: (N, C) float.
            parameters: weight (R, D) and bias (R,) of the scores; weight (D, C) and bias (D,) of a hidden layer.
        """
        tensors, dtype = (features, *parameters), _product_dtype(features)
        wide = torch.promote_types(dtype, torch.float32)
        weight, bias, *hidden = (each.to(dtype) for each in parameters)
        sums = torch.zeros(2, dtype=wide, device=features.device)
        made = [torch.zeros_like(each, dtype=wide) for each in tensors] if any(ctx.needs_input_grad) else []
        with full_precision(features):  # the products' type is chosen already
            for chunk in cells.split(cells_at_a_time(len(weight))):
                entered = features[chunk.index].to(dtype)
                inner = hidden_layer(entered, (hidden[0], hidden[1]) if hidden else None)
                scores = torch.addmm(bias[:, None], weight, inner.T).to(wide)
                sums += _divergence_to_pull(scores, chunk)
                if made:
                    pull = _pull_on_scores(scores, weight, inner, made[1:3])
                    if hidden:
                        pull = _pull_on_hidden(pull, hidden[0], inner, entered, made[3:])
                    made[0][chunk.index] = pull.to(wide)
        ctx.save_for_backward(*(gradient.to(each.dtype) for gradient, each in zip(made, tensors, strict=False)))
        total, plain = (each.clone() for each in sums)
        ctx.mark_non_differentiable(plain)
        return total, plain

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients made in the forward pass, scaled in place: they are the largest tensors of a step.

        After that torch itself refuses a second pass through the same graph.
        """
        return (None, *(gradient.mul_(grad_outputs[0].to(gradient)) for gradient in ctx.saved_tensors))


def _divergence_to_pull(scores: Tensor, cells: _Cells) -> Tensor:
    """Sums of count x factor x KL and of count x KL, (2,); scores (R, n) float32 become the former's derivative."""
    candidates, shares = cells.candidates.T, cells.shares.T
    scores.sub_(scores.amax(dim=0))
    believed = scores.gather(0, candidates)
    norm = scores.exp_().sum(dim=0)
    surprise = torch.where(shares > 0, shares.log() - believed + norm.log(), 0.0)
    divergence = (shares * surprise).sum(dim=0)
    factor, slope = _focal(divergence, cells.focal)
    pull = cells.counts * slope
    scores.mul_(pull / norm).scatter_add_(0, candidates, (-pull * shares).to(scores))
    counted = cells.counts * divergence
    return torch.stack([(factor * counted).sum(), counted.sum()])


def _pull_on_scores(pull: Tensor, weight: Tensor, inner: Tensor, made: list[Tensor]) -> Tensor:
    """The derivative by the inputs `inner` (n, D), from that by the scores (R, n); adds to those of weight and bias."""
    made[1] += pull.sum(dim=1)
    pull = pull.to(inner.dtype)
    _add_product(made[0], pull, inner)
    return pull.T @ weight


def _pull_on_hidden(pull: Tensor, weight: Tensor, inner: Tensor, entered: Tensor, made: list[Tensor]) -> Tensor:
    """The same for the hidden layer: from (n, D) to (n, C), through the ReLU that made `inner` of `entered`."""
    pull.mul_(inner > 0)
    made[1] += pull.sum(dim=0, dtype=made[1].dtype)
    _add_product(made[0], pull.T, entered)
    return pull @ weight


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total (R, D) float32 += left (R, n) @ right (n, D), without a second R x D where the types allow it."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def _merged(rows: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Candidates that share a row are one: rows (n, k) int64 and shares (n, k), of which some may now be 0."""
    if rows.shape[1] == 1:
        return rows, shares
    rows, order = rows.sort(dim=1)
    place = nn.functional.pad((rows.diff(dim=1) != 0).cumsum(dim=1), (1, 0))
    return rows.scatter(1, place, rows), torch.zeros_like(shares).scatter_add_(1, place, shares.gather(1, order))


def _focal(divergence: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """The factor of each cell (n,), and the slope d(factor x KL)/dKL (n,)."""
    if gamma == 0:
        return torch.ones_like(divergence), torch.ones_like(divergence)
    sure = (-divergence).exp()
    unsure = (1 - sure).clamp(min=1e-12)
    factor = unsure**gamma
    return factor, factor + divergence * gamma * sure * factor / unsure


def _product_dtype(rows: Tensor) -> torch.dtype:
    """What scores are multiplied in: autocast's type, except float16, whose range needs the loss scaled beforehand."""
    if not torch.is_autocast_enabled(rows.device.type):
        return rows.dtype
    dtype = torch.get_autocast_dtype(rows.device.type)
    return torch.float32 if dtype == torch.float16 else dtype
