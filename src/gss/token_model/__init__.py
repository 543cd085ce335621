"""The optional half of stage one that generates: a distribution over token grids, p(z), and samples from it.

What belongs here: p(z), numbers in and numbers out; it knows neither classes nor pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gss.registry import lookup
from gss.token_model.masked import MaskedTokenTransformer

TOKEN_MODELS = {"masked": MaskedTokenTransformer}


def build_token_model(name: str, vocab_size: int, grid: Sequence[int], **settings: Any) -> MaskedTokenTransformer:
    """The network that the config group `token_model` names, untrained.

    Args:
        name: a key of `TOKEN_MODELS`.
        vocab_size: V.
        grid: (h, w), the tokens of a label map.
        settings: keyword arguments of that class.

    Raises:
        ValueError: if there is no token model of that name.
    """
    return lookup(TOKEN_MODELS, "token_model.name", name)(vocab_size, grid, **settings)
