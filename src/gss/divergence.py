"""KL(q(z | labels) || p(z | image)), the second term of the ELBO, without ever holding all scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gss.networks.token_scores import TokenScores, cells_at_a_time
from gss.targets import TokenTargets
from gss.tokenizer.protocol import full_precision


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
    _check_tokens(targets.tokens, scores.vocab_size)
    valid = targets.token_valid.flatten()
    rows, tokens = scores.features.flatten(0, 2)[valid], targets.tokens.flatten()[valid]
    candidates, shares = (part.flatten(0, 2)[valid] for part in (targets.candidates, targets.shares))
    if scores.vocabulary is not None:
        candidates, shares = _merged(scores.vocabulary.rows[candidates], shares)
    counts = rows.new_ones(len(tokens), dtype=torch.float32) if token_weights is None else token_weights[tokens]
    arguments = (rows, scores.weight, scores.bias, candidates, shares, counts, focal, _product_dtype(rows))
    total, plain = _ChunkedDivergence.apply(*arguments)
    num_valid = valid.sum().clamp(min=1)
    return total / num_valid, plain / num_valid


class _ChunkedDivergence(torch.autograd.Function):
    """Sum over cells of count x factor(KL) x KL; gradients are made beside it, chunk by chunk.

    With p the softmax of a cell's scores, dKL/dscores = p - q, so one chunk of scores serves value and gradient.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, *fixed: Any) -> tuple[Tensor, Tensor]:
        """The sum, and the sum without factors, scalars float32.

        Args:
            ctx: keeps the gradients.
            rows: (N, D) float.
            weight: (R, D) float.
            bias: (R,) float.
            fixed: candidates (N, k) int64, shares (N, k) float32, counts (N,) float32, gamma, dtype of the products.
        """
        candidates, shares, counts, focal, dtype = fixed
        low, total = weight.to(dtype), torch.zeros((), device=rows.device)
        plain = torch.zeros_like(total)
        wanted = any(ctx.needs_input_grad)
        made = [torch.zeros_like(each, dtype=torch.float32) for each in (rows, weight, bias)] if wanted else []
        step = cells_at_a_time(len(weight))
        with full_precision(rows):  # the products' type is chosen already
            for start in range(0, len(rows), step):
                part = slice(start, start + step)
                chunk, posterior = rows[part].to(dtype), (candidates[part], shares[part])
                scores = (chunk @ low.T).float().add_(bias)
                divergence = _to_log_probs(scores, *posterior)
                factor, slope = _focal(divergence, focal)
                total += (counts[part] * factor * divergence).sum()
                plain += (counts[part] * divergence).sum()
                if wanted:
                    pull = _pull(scores, *posterior, counts[part] * slope)
                    made[2] += pull.sum(0)
                    pull = pull.to(dtype)
                    made[0][part] = pull @ low
                    made[1] += pull.T @ chunk
        ctx.save_for_backward(*(gradient.to(each) for gradient, each in zip(made, (rows, weight, bias), strict=False)))
        ctx.mark_non_differentiable(plain)
        return total, plain

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients made in the forward pass, scaled."""
        scale = grad_outputs[0]
        return (*(gradient * scale.to(gradient) for gradient in ctx.saved_tensors), *(None for _ in range(5)))


def _to_log_probs(scores: Tensor, candidates: Tensor, shares: Tensor) -> Tensor:
    """KL (n,) of each cell; scores (n, R) float32 become log-probabilities in place."""
    scores.sub_(scores.logsumexp(dim=1, keepdim=True))
    surprise = torch.where(shares > 0, shares.log() - scores.gather(1, candidates), 0.0)
    return (shares * surprise).sum(dim=1)


def _merged(rows: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Candidates that share a row are one: rows (n, k) int64 and shares (n, k), of which some may now be 0."""
    if rows.shape[1] == 1:
        return rows, shares
    rows, order = rows.sort(dim=1)
    place = nn.functional.pad((rows.diff(dim=1) != 0).cumsum(dim=1), (1, 0))
    return rows.scatter(1, place, rows), torch.zeros_like(shares).scatter_add_(1, place, shares.gather(1, order))


def _pull(log_probs: Tensor, candidates: Tensor, shares: Tensor, slope: Tensor) -> Tensor:
    """slope x (p - q), in place of log_probs (n, R) float32."""
    return log_probs.exp_().scatter_add_(1, candidates, -shares).mul_(slope[:, None])


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


def _check_tokens(tokens: Tensor, vocab_size: int) -> None:
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < vocab_size:
        raise ValueError(
            f"tokens reach from {int(tokens.min())} to {int(tokens.max())}, outside the vocabulary of {vocab_size}: "
            "the prior and the conditioning network differ, train stage=conditioning with the same prior=PATH"
        )
