"""New token grids from a masked-token model: iterative parallel decoding (MaskGIT, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from gss.token_model.masked import MaskedTokenTransformer, share_masked


@torch.no_grad()
def fill_in(
    model: MaskedTokenTransformer,
    tokens: Tensor,
    generator: torch.Generator,
    steps: int = 24,
    temperature: float = 1.0,
    randomness: float = 20.0,
) -> Tensor:
    """Draws every masked token, a few at a time and the surest first; all others stay as they are.

    In each step all missing tokens are drawn at once. Those with the highest confidence are kept, the others are
    masked again; how many stay masked follows the cosine schedule. Confidence is log p of what was drawn, plus Gumbel
    noise that fades to none, without which likely tokens would always come first and all grids would look alike.

    Args:
        model: in evaluation mode.
        tokens: (B, h, w) int64 in [0, V], where V marks what is to be drawn.
        generator: of all random numbers, on the model's device.
        steps: of the decoding; one draws all tokens independently of each other.
        temperature: divides the logits; below 1 prefers likely tokens.
        randomness: weight of the noise in the first step.

    Returns:
        (B, h, w) int64 in [0, V).

    Raises:
        ValueError: if a number is out of range.
    """
    _check(steps, temperature, randomness)
    filled = tokens.flatten(1).clone()
    missing = filled == model.mask_token
    total = missing.sum(1, keepdim=True)
    for step in range(1, steps + 1):
        logits = model(filled.view_as(tokens)).flatten(2).movedim(1, 2).float() / temperature
        drawn, confidence = _draw(logits, generator)
        confidence = confidence + randomness * (1 - step / steps) * _gumbel(confidence, generator)
        filled = torch.where(missing, drawn, filled)
        remain = (share_masked(step / steps) * total).long() if step < steps else torch.zeros_like(total)
        missing = _least_sure(confidence, missing, remain)
        filled = filled.masked_fill(missing, model.mask_token)
    return filled.view_as(tokens)


def _draw(logits: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One code per cell from logits (B, N, V) float, and its log-probability: both (B, N)."""
    log_probs = logits.log_softmax(-1)
    drawn = torch.multinomial(log_probs.exp().flatten(0, 1), 1, generator=generator).view(logits.shape[:2])
    return drawn, log_probs.gather(2, drawn[..., None])[..., 0]


def _gumbel(like: Tensor, generator: torch.Generator) -> Tensor:
    """Gumbel noise of a tensor's shape and device, float32."""
    uniform = torch.rand(like.shape, generator=generator, device=like.device).clamp(1e-9, 1 - 1e-7)
    return -(-uniform.log()).log()


def _least_sure(confidence: Tensor, missing: Tensor, remain: Tensor) -> Tensor:
    """The `remain` (B, 1) int64 missing cells of least confidence (B, N) float: (B, N) bool, within `missing`."""
    ranks = confidence.masked_fill(~missing, torch.inf).argsort(1).argsort(1)
    return missing & (ranks < remain)


def _check(steps: int, temperature: float, randomness: float) -> None:
    """Refuses numbers that no drawing can follow."""
    if steps < 1:
        raise ValueError(f"steps={steps}: drawing takes at least 1 step")
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} must be above 0: likely tokens are preferred below 1")
    if not randomness >= 0:
        raise ValueError(f"randomness={randomness} must be at least 0: 0 always keeps the surest tokens")


# FOLDED Grids that share something with real ones but not their order: what a learned distribution has to beat.


def shuffled_within(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Each grid's own tokens in random places: (B, h, w) int64, its histogram kept."""
    flat = tokens.flatten(1)
    order = torch.rand(flat.shape, generator=generator, device=tokens.device).argsort(1)
    return flat.gather(1, order).view_as(tokens)


def permuted_across_grids(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Each place's tokens dealt anew among the grids: (B, h, w) int64, what is likely at a place kept."""
    order = torch.rand(tokens.shape, generator=generator, device=tokens.device).argsort(0)
    return tokens.gather(0, order)
