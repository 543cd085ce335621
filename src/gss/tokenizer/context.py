"""A patch dictionary whose decoder has learned to look at neighbouring tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

import torch
from torch import Tensor

from gss.tokenizer.context_network import FOLD, ContextNetwork
from gss.tokenizer.patches import PatchDictionary
from gss.tokenizer.protocol import Decoded, Reconstruction

FLOOR = 0.01  # of a class's probability in a code: a class that no patch of a cluster had may still come back


class ContextDictionary(PatchDictionary):
    """Tokens are those of the dictionary; a small network corrects what they decode to by what lies around.

    The dictionary is fitted first and stays as it is; then the network is trained on labels. Tokens keep their meaning,
    so that they are no harder to predict from a photograph.

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

        Args:
            maskiges: pictures (B, 3, H, W) float32 in [0, 1] in exact palette colours.
            colours: (K, 3) float32 in [0, 1], the palette.
            ignore_colour: (3,) float32 in [0, 1].
            on_iteration: called with the number of Lloyd iterations done.

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
