"""A patch dictionary whose decoder looks at neighbouring tokens too: a small network over decoded class scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn

from gss.tokenizer.base import Decoded, Reconstruction
from gss.tokenizer.patches import PatchDictionary

FOLD = 2  # pixels of a 2x2 block are worked on together: a quarter of the positions, twice the reach
FLOOR = 0.01  # of a class's probability in a code: a class that no patch of a cluster had may still come back


class ContextDictionary(PatchDictionary):
    """Tokens are those of the dictionary; a small network corrects what they decode to by what lies around.

    The dictionary is fitted first and stays as it is; then the network is trained on labels. Tokens keep their meaning,
    so that they are no harder to predict from an image.

    Args:
        hidden: width of the network.
        depth: its residual convolutions.
        dictionary: settings of `PatchDictionary`.

    Raises:
        ValueError: if `stride` is odd.
    """

    trainable = True
    context: ContextNetwork | None

    def __init__(self, hidden: int = 40, depth: int = 3, **dictionary: Any) -> None:
        super().__init__(**dictionary)
        if self.stride % FOLD:
            raise ValueError(f"tokenizer.stride={self.stride} must be even for tokenizer=patches_context")
        self.hidden, self.depth = hidden, depth
        self.context = None  # the number of classes is known to the fit

    def fit(
        self,
        maskiges: Iterable[Tensor],
        colours: Tensor,
        ignore_colour: Tensor,
        on_iteration: Callable[[int], None] = lambda iteration: None,
    ) -> None:
        """Fits the dictionary to maskiges (B, 3, H, W), and makes a network that corrects nothing yet.

        Raises:
            ValueError: if no patch is fully labelled.
        """
        super().fit(maskiges, colours, ignore_colour, on_iteration)
        self.context = self._network(len(colours))

    @property
    def cell_classes(self) -> None:
        """None, since neighbours have a say in what a cell shows."""

    def decode(self, tokens: Tensor) -> Decoded:
        """The dictionary's patches, corrected: (B, h, w) int64 in [0, V) to class_probs (B, K, H, W) float32."""
        return self._corrected(super().decode(tokens))

    def decode_mixed(self, mixed: Tensor) -> Decoded:
        """Averages (B, K * stride^2, h, w) float32 of patches, corrected: class_probs (B, K, H, W) float32.

        Both ways the maskige (B, 3, H, W) float32 in [0, 1] shows the likeliest class in its exact colour.
        """
        return self._corrected(super().decode_mixed(mixed))

    def reconstruct(self, maskige: Tensor) -> Reconstruction:
        """One pass whose class_scores carry gradients to the network: (B, 3, H, W) float in [0, 1], exact colours."""
        with torch.no_grad():
            tokens = self.encode(maskige)
            class_probs = super().decode(tokens).class_probs
        assert class_probs is not None
        scores = self._scores(class_probs)
        return Reconstruction(self._painted(scores), tokens, scores.new_zeros(()), scores)

    def _corrected(self, decoded: Decoded) -> Decoded:
        assert decoded.class_probs is not None
        scores = self._scores(decoded.class_probs)
        return Decoded(lambda: self._painted(scores), scores.softmax(dim=1))

    def _scores(self, class_probs: Tensor) -> Tensor:
        """Log-probabilities up to a constant: class_probs (B, K, H, W) float32 to the same shape."""
        assert self.context is not None, "fit comes first"
        return torch.as_tensor(class_probs.clamp(min=FLOOR).log() + self.context(class_probs))

    def _painted(self, scores: Tensor) -> Tensor:
        return self.colours[scores.max(dim=1).indices].movedim(-1, 1)

    def _network(self, num_classes: int) -> ContextNetwork:
        return ContextNetwork(num_classes, self.stride, self.hidden, self.depth).to(self.colours.device)

    def _load_from_state_dict(self, state_dict: MutableMapping[str, Any], prefix: str, *args: Any) -> None:
        if self.context is None and prefix + "colours" in state_dict:
            self.context = self._network(len(state_dict[prefix + "colours"]))  # filled next, as every child is
        super()._load_from_state_dict(state_dict, prefix, *args)


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
