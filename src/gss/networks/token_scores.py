"""p(z | image) as a linear map that is not yet carried out: V scores per cell are more than memory should hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gss.networks.vocabulary import Vocabulary

CHUNK = 2**22  # scores held at a time: 16 MiB in float32


@dataclass(frozen=True)
class TokenScores:
    """score_r = <features, weight_r> + bias_r for each row r of a head, in each cell.

    Both heads end in such a product, so losses and readouts go through it some cells at a time, and the full scores,
    1.2 GB for the 192x192 cells of a 768x768 crop over 8192 tokens, never exist.

    Args:
        features: (B, h, w, D) float.
        weight: (R, D) float; R = V unless the vocabulary says otherwise.
        bias: (R,) float.
        vocabulary: the tokens that the rows stand for; None: row v is token v.
    """

    features: Tensor
    weight: Tensor
    bias: Tensor
    vocabulary: Vocabulary | None = None

    @classmethod
    def from_logits(cls, prior_logits: Tensor) -> TokenScores:
        """Scores that are known already: (B, V, h, w) float, finite."""
        vocab_size = prior_logits.shape[1]
        eye = torch.eye(vocab_size, dtype=prior_logits.dtype, device=prior_logits.device)
        return cls(prior_logits.movedim(1, -1), eye, prior_logits.new_zeros(vocab_size))

    @property
    def vocab_size(self) -> int:
        """V, the tokens that can be meant, with or without a row of their own."""
        return len(self.weight) if self.vocabulary is None else len(self.vocabulary.rows)

    def logits(self) -> Tensor:
        """All scores at once, for small vocabularies: prior_logits (B, R, h, w) float."""
        return nn.functional.linear(self.features, self.weight, self.bias).movedim(-1, 1)

    def likeliest(self) -> Tensor:
        """The token of the highest score: (B, h, w) int64 in [0, V)."""
        rows = torch.cat([self._scores(part).max(dim=1).indices for part in self._parts()])
        tokens = rows if self.vocabulary is None else self.vocabulary.tokens[rows]
        return tokens.view(self.features.shape[:-1])

    def expected(self, table: Tensor) -> Tensor:
        """The mean of a table's entries under p(z | image), differentiable.

        Args:
            table: (V, C) float32.

        Returns:
            (B, C, h, w) float32.
        """
        kept = table if self.vocabulary is None else table[self.vocabulary.tokens]
        means = torch.cat([self._mean(part, kept) for part in self._parts()])
        return means.view(*self.features.shape[:-1], -1).movedim(-1, 1)

    def _mean(self, part: Tensor, table: Tensor) -> Tensor:
        """Entries (n, C) for cells (n, D); with gradients on, the scores are made again for them, not kept."""
        tensors = (part, self.weight, self.bias, table)
        return torch.as_tensor(checkpoint(_mean, *tensors, use_reentrant=False))

    def _scores(self, part: Tensor) -> Tensor:
        """(n, D) float to (n, R) float32."""
        return nn.functional.linear(part, self.weight, self.bias).float()

    def _parts(self) -> Iterator[Tensor]:
        """Some cells (n, D) at a time."""
        yield from self.features.flatten(0, 2).split(cells_at_a_time(len(self.weight)))


def cells_at_a_time(num_rows: int) -> int:
    """How many cells' scores fit into one chunk of a head with so many rows."""
    return max(1, CHUNK // num_rows)


def _mean(cells: Tensor, weight: Tensor, bias: Tensor, table: Tensor) -> Tensor:
    """Entries (n, C) float32 of a table (R, C) float32, averaged under the scores of cells (n, D)."""
    scores = nn.functional.linear(cells, weight, bias).float()
    with torch.autocast(cells.device.type, enabled=False):
        return scores.softmax(dim=1) @ table
