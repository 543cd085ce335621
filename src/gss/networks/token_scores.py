"""p(z | image) as a linear map that is not yet carried out: V scores per cell are more than memory should hold.

Rows stand for all tokens, or for those alone that training maskiges use, with an exact way back (`Vocabulary`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

CodeBlock = tuple[Tensor | None, Tensor]  # (R,) int64 tokens, None: all V; and their entries (R, C) float32
Layer = tuple[Tensor, Tensor]  # weight (D, C) float and bias (D,) float

GROUP = 32  # scores whose largest is sought together
CHUNK = 2**22  # scores held at a time: 16 MiB in float32


@dataclass(frozen=True)
class TokenScores:
    """score_r = <x, weight_r> + bias_r for each row r of a head, in each cell.

    x are the features, or a hidden layer of them, ReLU(hidden weight @ features + hidden bias). Every head ends so, and
    losses and readouts go through it some cells at a time: for the 192x192 cells of a 768x768 crop, the full scores
    over 8192 tokens (1.2 GB) never exist, nor does a hidden layer of 2048 channels (0.3 GB).

    Args:
        features: (B, h, w, C) float.
        weight: (R, D) float; R = V unless the vocabulary says otherwise; D = C without a hidden layer.
        bias: (R,) float.
        vocabulary: the tokens that the rows stand for; None: row v is token v.
        hidden: weight (D, C) float and bias (D,) float of the hidden layer; None: there is none.
    """

    features: Tensor
    weight: Tensor
    bias: Tensor
    vocabulary: Vocabulary | None = None
    hidden: Layer | None = None

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
        return linear(hidden_layer(self.features, self.hidden), self.weight, self.bias).movedim(-1, 1)

    def likeliest(self) -> Tensor:
        """The token of the highest score: (B, h, w) int64 in [0, V)."""
        rows = torch.cat([first_largest(self._scores(part)) for part in self._parts()])
        tokens = rows if self.vocabulary is None else self.vocabulary.tokens[rows]
        return tokens.view(self.features.shape[:-1])

    def expected(self, blocks: Sequence[CodeBlock]) -> Tensor:
        """The mean of a table's entries under p(z | image), differentiable.

        Args:
            blocks: of columns of the table, V x C in all: `Tokenizer.code_blocks`.

        Returns:
            (B, C, h, w) float32.
        """
        held = [self._in_rows(block) for block in blocks]
        # with gradients on, the scores of each part are made again in the backward pass, not kept
        means = torch.cat([checkpoint(self._mean, part, held, use_reentrant=False) for part in self._parts()])
        return means.view(*self.features.shape[:-1], -1).movedim(-1, 1)

    @torch.no_grad()
    def likeliest_classes(self, classes: Tensor, least: Tensor, most: Tensor) -> Tensor:
        """The class of the largest mean under p(z | image) at each pixel of a cell, with few of the means computed.

        At each pixel the means sum to 1, and that of class k is at least sum_t p_t least_tk. Where this is above 1/2, k
        is the answer for the whole cell, and of the other cells only those classes are averaged whose bound from
        above, sum_t p_t most_tk, reaches the largest bound from below. Both bounds are taken with the most that
        rounding can do to sums of V terms, so that labels differ from those of the full means in ties alone.

        Args:
            classes: (V, K, s, s) float32, each token's class probabilities, sums to 1 over K.
            least: (K, V) float32, the least of each token's s x s pixels.
            most: (K, V) float32, the largest of them.

        Returns:
            (B, h, w, s * s) int64 in [0, K).
        """
        if self.vocabulary is not None:
            tokens = self.vocabulary.tokens
            classes, least, most = classes[tokens], least[:, tokens], most[:, tokens]
        shares = (self._scores(part).softmax(dim=1) for part in self._parts())
        labels = torch.cat([_classes_of(some, classes, least, most) for some in shares])
        return labels.view(*self.features.shape[:-1], -1)

    def _in_rows(self, block: CodeBlock) -> CodeBlock:
        """A block with rows of the head in place of tokens."""
        tokens, entries = block
        if self.vocabulary is None:
            return block
        if tokens is None:
            return None, entries[self.vocabulary.tokens]
        own = self.vocabulary.has_row(tokens)
        return self.vocabulary.rows[tokens[own]], entries[own]

    def _mean(self, part: Tensor, blocks: list[CodeBlock]) -> Tensor:
        """Entries (n, C) float32 averaged under the scores of some cells."""
        scores = torch.addmm(self.bias[:, None], self.weight, hidden_layer(part, self.hidden).T)
        with torch.autocast(part.device.type, enabled=False):
            shares = scores.float().softmax(dim=0)  # (R, n), from which rows are cheap to take
            means = [(shares if rows is None else shares.index_select(0, rows)).T @ entries for rows, entries in blocks]
            return torch.cat(means, dim=1)

    def _scores(self, part: Tensor) -> Tensor:
        """(n, C) float to (n, R) float32."""
        return linear(hidden_layer(part, self.hidden), self.weight, self.bias).float()

    def _parts(self) -> Iterator[Tensor]:
        """Some cells (n, C) at a time."""
        yield from self.features.flatten(0, 2).split(cells_at_a_time(len(self.weight)))


class Vocabulary(nn.Module):
    """The rows of a head and the tokens that they stand for.

    Args:
        tokens: (R,) int64 in [0, V), ascending: the token of each row.
        rows: (V,) int64 in [0, R): the row of each token; of a token without a row, that of the most similar one.

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


def _classes_of(shares: Tensor, classes: Tensor, least: Tensor, most: Tensor) -> Tensor:
    """Likeliest classes (n, s * s) int64 for shares (n, R) float32 of tokens."""
    with torch.autocast(shares.device.type, enabled=False):  # bounds want full precision
        lowest, label = (least @ shares.T).max(dim=0)  # three times faster than shares @ least.T
        labels = label[:, None].repeat(1, classes[0, 0].numel())
        slack = torch.finfo(shares.dtype).eps * shares.shape[1]  # twice what rounding does to a sum of R terms
        open_cells = (lowest <= 0.5 + slack).nonzero()[:, 0]
        for some in open_cells.split(cells_at_a_time(classes[0].numel())):
            possible = most @ shares[some].T >= lowest[some] - 2 * slack
            labels[some] = _averaged(shares[some], classes, possible).max(dim=1).indices
        return labels


def _averaged(shares: Tensor, classes: Tensor, possible: Tensor) -> Tensor:
    """Means (n, K, s * s) float32 of the classes that are possible, (K, n) bool, under shares (n, R); others are 0."""
    means = shares.new_zeros(len(shares), classes.shape[1], classes[0, 0].numel())
    for k in possible.any(dim=1).nonzero()[:, 0].tolist():
        cells = possible[k].nonzero()[:, 0]
        means[cells, k] = shares[cells] @ classes[:, k].flatten(1)
    return means


def first_largest(scores: Tensor) -> Tensor:
    """argmax over rows: scores (n, R) float to (n,) int64, of equal ones the first.

    The group of the largest first and then the place in it, since a maximum without its place takes a tenth of the
    time of one with it.
    """
    if scores.shape[1] % GROUP:
        return scores.argmax(dim=1)
    groups = scores.unflatten(1, (-1, GROUP))
    group = groups.amax(dim=2).argmax(dim=1)
    places = groups[torch.arange(len(scores), device=scores.device), group].argmax(dim=1)
    return torch.as_tensor(GROUP * group + places)


def cells_at_a_time(num_rows: int) -> int:
    """How many cells' scores fit into one chunk of a head with so many rows."""
    return max(1, CHUNK // num_rows)


def hidden_layer(cells: Tensor, hidden: Layer | None) -> Tensor:
    """ReLU(weight @ cell + bias) of cells (..., C) float, (..., D) float; without a layer the cells themselves."""
    return cells if hidden is None else linear(cells, *hidden).relu_()
