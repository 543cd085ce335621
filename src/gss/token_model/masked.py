"""A distribution over token grids that is learned by filling in masked tokens: p(z), stage one without any labels.

The network is that of MaskGIT (Chang, Zhang, Jiang, Liu, Freeman; CVPR 2022), at the size of a label map's grid. How
much of a grid is masked, in training and while sampling, follows its cosine schedule (section 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

SCALE = 0.2  # standard deviation of the embedding in the beginning; a tenth of it was learned from much more slowly


class MaskedTokenTransformer(nn.Module):
    """Every token is scored from all others, so that a grid can be filled in any order.

    One more code, `mask_token` = V, stands for a token that is not known yet. The embedding of the codes is also the
    output layer. Codes that never occur keep a place in it and get next to no probability, by the bias.

    Positions are learned by row and by column of one grid, and a depthwise 3x3 convolution tells each cell its
    neighbours, so the network knows this grid and no other.

    Args:
        vocab_size: V.
        grid: (h, w), the tokens of a label map.
        width: of the embedding.
        depth: transformer layers.
        heads: of each layer; must divide `width`.
        dropout: inside the layers, while training.

    Raises:
        ValueError: if the heads do not divide the width.
    """

    def __init__(
        self,
        vocab_size: int,
        grid: Sequence[int],
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"token_model.heads={heads} does not divide token_model.width={width}")
        self.vocab_size, self.grid = vocab_size, (int(grid[0]), int(grid[1]))
        self.embedding = nn.Embedding(vocab_size + 1, width)
        self.row_pos_embed = nn.Parameter(torch.zeros(self.grid[0], 1, width))
        self.column_pos_embed = nn.Parameter(torch.zeros(self.grid[1], width))
        self.neighbours = nn.Conv2d(width, width, 3, padding=1, groups=width)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        layer.self_attn.dropout = 0.0  # on a CPU attention with dropout takes the slow way: 2.5 times as long a step
        self.layers = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        nn.init.trunc_normal_(self.embedding.weight, std=SCALE)
        for table in (self.row_pos_embed, self.column_pos_embed):
            nn.init.trunc_normal_(table, std=SCALE / 10)

    @torch.no_grad()
    def start_from(self, contents: Tensor, tokens: Tensor) -> None:
        """Lets codes that look alike begin alike, and frequent codes begin likely: with few label maps it matters.

        The embedding starts as the principal components of what the codes decode to, the bias as their frequency.

        Args:
            contents: (C, D) float32, what each of the first C codes decodes to; C <= V.
            tokens: (N, h, w) int64 in [0, V), training grids; a code that never occurs in them counts as half a time.
        """
        count = min(self.embedding.embedding_dim, *contents.shape)
        left, strength, _ = torch.pca_lowrank(contents.float(), count)
        components = left * strength
        spread = components.std().clamp(min=1e-6)
        codes = self.embedding.weight[: len(contents)]
        codes.mul_(0.1)  # what is left of the random beginning tells codes of the same content apart
        codes[:, :count] += SCALE * components / spread
        counts = torch.bincount(tokens.flatten(), minlength=self.vocab_size) + 0.5
        self.bias.copy_(counts.log() - counts.sum().log())

    @property
    def mask_token(self) -> int:
        """The code of a token that is not known: V."""
        return self.vocab_size

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of every code at every cell.

        Args:
            tokens: (B, h, w) int64 in [0, V], where V marks what is to be found.

        Returns:
            Logits (B, V, h, w) float.

        Raises:
            ValueError: if the grid is not the one that was learned.
        """
        return self.scores(self.features(tokens)).movedim(-1, 1)

    def features(self, tokens: Tensor) -> Tensor:
        """What is known about each cell: tokens (B, h, w) int64 in [0, V] to (B, h, w, width) float."""
        if tuple(tokens.shape[1:]) != self.grid:
            raise ValueError(
                f"the token model knows grids of {self.grid[0]}x{self.grid[1]} tokens, got "
                f"{tokens.shape[1]}x{tokens.shape[2]}: give label maps of the size that stage=prior was run at"
            )
        cells = self.embedding(tokens) + self.row_pos_embed + self.column_pos_embed
        cells = cells + self.neighbours(cells.movedim(-1, 1)).movedim(1, -1)
        return torch.as_tensor(self.layers(cells.flatten(1, 2))).view_as(cells)

    def scores(self, features: Tensor) -> Tensor:
        """Logits (..., V) float of cells with features (..., width) float."""
        return features @ self.embedding.weight[: self.vocab_size].T + self.bias


def share_masked(progress: float | Tensor) -> Tensor:
    """Share of the tokens, in [0, 1], that is still masked after a share `progress` in [0, 1] of the steps.

    It falls slowly at first, while little is known: gamma(r) = cos(r pi / 2).
    """
    return torch.cos(torch.as_tensor(progress) * (math.pi / 2)).clamp(min=0.0)


def random_masks(num_grids: int, grid: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Samples which tokens the model has to find in training: at least one of each grid.

    Args:
        num_grids: B.
        grid: (h, w).
        generator: of all random numbers, on the CPU.

    Returns:
        (B, h, w) bool, True where masked; the share of each grid is gamma(r) of its own r, uniform in [0, 1].
    """
    num_tokens = grid[0] * grid[1]
    shares = share_masked(torch.rand(num_grids, 1, generator=generator))
    ranks = torch.rand(num_grids, num_tokens, generator=generator).argsort(1).argsort(1)
    return (ranks < (shares * num_tokens).ceil().clamp(min=1)).view(num_grids, *grid)
