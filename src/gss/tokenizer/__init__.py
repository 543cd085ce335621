"""Tokenizers: a maskige as a grid of discrete tokens, and back (q and p_theta of the paper).

What belongs here: everything between a maskige and its tokens, one file per tokenizer, and the reading of published
weights.
"""

from __future__ import annotations

from typing import Any

from gss.tokenizer.base import Tokenizer
from gss.tokenizer.dalle import DalleDVAE
from gss.tokenizer.diffusers import VQGAN, KLAutoencoder
from gss.tokenizer.patches import PatchDictionary
from gss.tokenizer.patches_context import ContextDictionary
from gss.tokenizer.vqvae import VQVAE

TOKENIZERS: dict[str, type[Tokenizer]] = {
    "patches": PatchDictionary,
    "patches_context": ContextDictionary,
    "vqvae": VQVAE,
    "dalle": DalleDVAE,
    "vqgan": VQGAN,
    "kl": KLAutoencoder,
}


def build_tokenizer(name: str, **settings: Any) -> Tokenizer:
    """The tokenizer that the config group `tokenizer` names.

    Args:
        name: a key of `TOKENIZERS`.
        settings: keyword arguments of that class.

    Raises:
        ValueError: if there is no tokenizer of that name.
    """
    if name not in TOKENIZERS:
        raise ValueError(f"unknown tokenizer.name={name!r}: one of {', '.join(sorted(TOKENIZERS))}")
    return TOKENIZERS[name](**settings)
