"""Learning X and X^-1 on frozen tokens: cross-entropy of what is read off decoded maskiges (part b of section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from gss.pipeline import MaskigeAutoencoder


def learns(autoencoder: MaskigeAutoencoder) -> bool:
    """Whether its colours or its inverse have anything to learn."""
    return autoencoder.transform.learned or autoencoder.inverse.trainable


def check_learnable(autoencoder: MaskigeAutoencoder, tokenizer: str, inverse: str) -> None:
    """Refuses combinations in which what is to be learned gets no gradient, or is never asked.

    Args:
        autoencoder: as configured.
        tokenizer: its configured name.
        inverse: its configured name.

    Raises:
        ValueError: naming the key to change.
    """
    knows_classes, inverses = autoencoder.tokenizer.knows_classes, autoencoder.inverse
    if autoencoder.transform.learned and knows_classes:
        raise ValueError(
            f"maskige.palette=learned needs tokens that pass gradients on, and tokenizer={tokenizer} knows one fixed "
            "palette: choose tokenizer=vqvae"
        )
    if autoencoder.transform.learned and not inverses.differentiable:
        raise ValueError(
            f"maskige.palette=learned needs an inverse that passes gradients on, and maskige.inverse.name={inverse} "
            "passes none: choose soft_distance"
        )
    if inverses.trainable and knows_classes and autoencoder.native_probs:
        raise ValueError(
            f"maskige.inverse.name={inverse} would be trained and never asked, because tokenizer={tokenizer} knows "
            "classes itself: set maskige.native_probs=false"
        )


def check_inverse_learns(autoencoder: MaskigeAutoencoder, tokenizer: str, inverse: str, asked_by: str) -> None:
    """Refuses to train an inverse that has nothing to learn, or would never be asked.

    Args:
        autoencoder: as configured.
        tokenizer: its configured name.
        inverse: its configured name.
        asked_by: the setting that wants it trained, key=value.

    Raises:
        ValueError: naming the key to change.
    """
    check_learnable(autoencoder, tokenizer, inverse)
    if not autoencoder.inverse.trainable:
        raise ValueError(
            f"{asked_by} trains the inverse, and maskige.inverse.name={inverse} has nothing to learn: choose "
            "maskige=ft or maskige=ft_w"
        )


def reconstructed_maskige(autoencoder: MaskigeAutoencoder, labels: Tensor, token_temperature: float = 1.0) -> Tensor:
    """Labels through frozen tokens, not yet read; gradients reach the colours if they are learned.

    Args:
        autoencoder: with a frozen tokenizer.
        labels: (B, H, W) int64 in [0, K) or 255.
        token_temperature: of the gradients that pass through the tokens.

    Returns:
        maskige (B, 3, H', W') float32 in [0, 1], of whole cells.
    """
    tokenizer = autoencoder.tokenizer
    if not autoencoder.transform.learned:
        with torch.no_grad():
            return tokenizer.decode(autoencoder.encode(labels)).maskige
    tokens = straight_through(tokenizer.token_logits(autoencoder.paint(labels)), token_temperature)
    return tokenizer.decode_expected(tokens).maskige


def straight_through(token_logits: Tensor, temperature: float) -> Tensor:
    """The likeliest token of each cell as one-hot forward, the gradient of the softmax backward.

    The paper's hard Gumbel-softmax with its argmax forward (section 3.3): the tokens are those of `encode`.

    Args:
        token_logits: (B, V, h, w) float32.
        temperature: of the softmax.

    Returns:
        (B, V, h, w) float32, one-hot over V.
    """
    soft = (token_logits / temperature).softmax(dim=1)
    hard = torch.zeros_like(soft).scatter_(1, token_logits.argmax(1, keepdim=True), 1.0)
    return hard + (soft - soft.detach())


def jitter_colours(maskige: Tensor, reach: float) -> Tensor:
    """Moves every pixel's colour at random by less than `reach`: training noise for X^-1, as in SemFlow.

    Below half the distance of the closest pair of colours no noise-free pixel changes its nearest colour.

    Args:
        maskige: (B, 3, H, W) float32 in [0, 1].
        reach: in colours from 0 to 1; 0 leaves the maskige as it is.

    Returns:
        (B, 3, H, W) float32, which may leave [0, 1] by less than `reach`.
    """
    if reach == 0:
        return maskige
    sides = torch.rand_like(maskige) * 2 - 1
    return maskige + sides * (reach / 3**0.5)  # a cube inside the ball
