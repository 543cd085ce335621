"""New token grids from a masked-token model: iterative parallel decoding (MaskGIT, section 3.2).

And the controls that a learned distribution has to beat: grids that share something with real ones but not their order.
"""

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
    """Samples every masked token, a few at a time and the surest first; all others stay as they are.

    In each step all missing tokens are sampled at once. Those with the highest confidence are kept, the others are
    masked again; how many stay masked follows the cosine schedule. Confidence is log p of the sample, plus Gumbel
    noise that fades to none, without which likely tokens would always come first and all grids would look alike.

    Args:
        model: in evaluation mode.
        tokens: (B, h, w) int64 in [0, V], where V marks what is to be sampled.
        generator: of all random numbers, on the model's device.
        steps: of the decoding; one samples all tokens independently of each other.
        temperature: divides the logits; below 1 prefers likely tokens.
        randomness: weight of the noise in the first step.

    Returns:
        (B, h, w) int64 in [0, V).

    Raises:
        ValueError: if a number is out of range.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}: sampling takes at least 1 step")
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} must be above 0: likely tokens are preferred below 1")
    if not randomness >= 0:
        raise ValueError(f"randomness={randomness} must be at least 0: 0 always keeps the surest tokens")
    filled = tokens.flatten(1).clone()
    missing = filled == model.mask_token
    total = missing.sum(1, keepdim=True)
    for step in range(1, steps + 1):
        logits = model(filled.view_as(tokens)).flatten(2).movedim(1, 2).float() / temperature
        sampled, confidence = _sample(logits, generator)
        confidence = confidence + randomness * (1 - step / steps) * _gumbel(confidence, generator)
        filled = torch.where(missing, sampled, filled)
        remain = (share_masked(step / steps) * total).long() if step < steps else torch.zeros_like(total)
        ranks = confidence.masked_fill(~missing, torch.inf).argsort(1).argsort(1)
        missing = missing & (ranks < remain)  # the least sure
        filled = filled.masked_fill(missing, model.mask_token)
    return filled.view_as(tokens)


def permuted_within_grids(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Each grid's own tokens permuted over its places: (B, h, w) int64, its histogram kept."""
    flat = tokens.flatten(1)
    order = torch.rand(flat.shape, generator=generator, device=tokens.device).argsort(1)
    return flat.gather(1, order).view_as(tokens)


def permuted_across_grids(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Each place's tokens permuted over the grids: (B, h, w) int64, what is likely at a place kept."""
    order = torch.rand(tokens.shape, generator=generator, device=tokens.device).argsort(0)
    return tokens.gather(0, order)


def _sample(logits: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One code per cell from logits (B, N, V) float, and its log-probability: both (B, N)."""
    log_probs = logits.log_softmax(-1)
    sampled = torch.multinomial(log_probs.exp().flatten(0, 1), 1, generator=generator).view(logits.shape[:2])
    return sampled, log_probs.gather(2, sampled[..., None])[..., 0]


def _gumbel(shaped: Tensor, generator: torch.Generator) -> Tensor:
    """Gumbel noise of a tensor's shape and device, float32."""
    uniform = torch.rand(shaped.shape, generator=generator, device=shaped.device).clamp(1e-9, 1 - 1e-7)
    return -(-uniform.log()).log()
