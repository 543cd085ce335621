"""What neighbouring tokens tell about a pixel: a small convolutional network over a decoded label map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FOLD = 2  # pixels of a 2x2 block are worked on together: a quarter of the positions, twice the reach


class ContextNetwork(nn.Module):
    """Corrections to class scores from what lies around: where an edge or a pole goes on in the next cell.

    Every 2x2 block of pixels is one position of the convolutions, which also know where in its cell it lies. The last
    layer starts at zero, so that an untrained network corrects nothing.

    Args:
        num_classes: K.
        stride: pixels per token, even.
        hidden: width of the convolutions.
        depth: residual convolutions between the first and the last.
    """

    def __init__(self, num_classes: int, stride: int, hidden: int, depth: int) -> None:
        super().__init__()
        folded = num_classes * FOLD**2
        self.input = nn.Conv2d(folded, hidden, 3, padding=1)
        self.position = nn.Parameter(torch.zeros(1, hidden, stride // FOLD, stride // FOLD))
        self.layers = nn.ModuleList(nn.Conv2d(hidden, hidden, 3, padding=1) for _ in range(depth))
        self.output = nn.Conv2d(hidden, folded, 3, padding=1)
        nn.init.zeros_(self.output.weight)
        assert self.output.bias is not None
        nn.init.zeros_(self.output.bias)

    def forward(self, class_probs: Tensor) -> Tensor:
        """class_probs (B, K, H, W) float32 of whole cells to what their logarithms lack, of the same shape."""
        features = self.input(nn.functional.pixel_unshuffle(class_probs, FOLD))
        rows, columns = (side // of for side, of in zip(features.shape[2:], self.position.shape[2:], strict=True))
        features = features + self.position.repeat(1, 1, rows, columns)
        for layer in self.layers:
            features = features + layer(nn.functional.silu(features))
        return nn.functional.pixel_shuffle(self.output(nn.functional.silu(features)), FOLD).float()
