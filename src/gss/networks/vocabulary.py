"""Which tokens a head scores: all of them, or those that training maskiges use, with an exact way back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Vocabulary(nn.Module):
    """The rows of a head and the tokens that they stand for.

    Args:
        tokens: (R,) int64 in [0, V), ascending: the token of each row.
        rows: (V,) int64 in [0, R): the row of each token; of a token without a row, that of the one most like it.

    Raises:
        ValueError: if a token with a row does not come back from it.
    """

    tokens: Tensor
    rows: Tensor

    def __init__(self, tokens: Tensor, rows: Tensor) -> None:
        super().__init__()
        if not torch.equal(rows[tokens], torch.arange(len(tokens), device=tokens.device)):
            raise ValueError(f"of {len(tokens)} tokens with a row of their own, not every one comes back from it")
        self.register_buffer("tokens", tokens)
        self.register_buffer("rows", rows)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.tokens)

    @classmethod
    def held_in(cls, state: Mapping[str, Tensor], prefix: str) -> Vocabulary | None:
        """The one whose tensors a state dict holds under a prefix, in their size; None where it holds none."""
        names = [f"{prefix}{name}" for name in ("tokens", "rows")]
        return cls(*(state[name] for name in names)) if all(name in state for name in names) else None

    def has_row(self, tokens: Tensor) -> Tensor:
        """Which tokens have a row of their own: int64 in [0, V) to bool, of any one shape."""
        return self.tokens[self.rows[tokens]] == tokens
