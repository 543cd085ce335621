"""Tokenizers: a maskige as a grid of discrete tokens, and back (q and p_theta of the paper).

What belongs here: everything between a maskige and its tokens, one file per tokenizer, and the reading of published
weights.
"""

from __future__ import annotations
