"""Training-free tokens: a dictionary of maskige patches, each remembering the classes of the patches it stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn

from gss.tokenizer.base import CellClasses, Decoded, Tokenizer, full_precision, shares_of
from gss.tokenizer.patch_clustering import (
    cheapest_codes,
    count_patches,
    kmodes,
    mistake_weights,
    nearest_codes,
    patch_classes,
)


class PatchDictionary(Tokenizer):
    """k-modes over maskige patches; a token decodes to its cluster's class distribution at each pixel.

    A patch goes to the code whose mistakes cost least, where a mistake counts what it takes from the mIoU: both classes
    that it mixes up count, the rarer the more. Pixels painted in the ignore colour are left out of the match: a cell
    that is labelled in part gets the token that explains its labelled part best.

    Args:
        stride: side of a patch and of a token, in pixels.
        vocab_size: V, the number of clusters; fewer where the training maskiges have fewer distinct patches.
        iterations: Lloyd iterations.
        max_patches: distinct patches kept for the fit, the most frequent first.
        count_power: weight of a distinct patch is its count to this power: less than 1 prepares for patches that are
            not among the training ones.
        class_balance: a class counts (its share of pixels)^-class_balance in a mistake; 0: all wrong pixels alike.
        seed: of the random choice of the first codes.
    """

    trainable, fitted = False, True
    knows_classes = True
    class_probs: Tensor
    log_frequency: Tensor
    colours: Tensor
    ignore_colour: Tensor
    mistake_weights: Tensor
    codes: Tensor
    showing: Tensor
    least: Tensor
    most: Tensor

    def __init__(
        self,
        stride: int = 8,
        vocab_size: int = 1024,
        iterations: int = 6,
        max_patches: int = 200_000,
        count_power: float = 0.7,
        class_balance: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.stride, self.vocab_size = stride, vocab_size
        self._most = vocab_size
        self.iterations, self.max_patches = iterations, max_patches
        self.count_power, self.class_balance, self.seed = count_power, class_balance, seed
        for name in ("class_probs", "log_frequency", "colours", "ignore_colour", "mistake_weights"):
            self.register_buffer(name, torch.empty(0))
        for name in ("codes", "showing", "least", "most"):
            self.register_buffer(name, torch.empty(0), persistent=False)

    def fit(
        self,
        maskiges: Iterable[Tensor],
        colours: Tensor,
        ignore_colour: Tensor,
        on_iteration: Callable[[int], None] = lambda iteration: None,
    ) -> None:
        """Clusters the fully labelled patches of maskiges (B, 3, H, W) in exact colours (K, 3), by Lloyd's iterations.

        Raises:
            ValueError: if no patch is fully labelled.
        """
        self.colours, self.ignore_colour = colours.clone(), ignore_colour.clone()
        patches, counts = count_patches(maskiges, self._all_colours(), self.stride, self.max_patches)
        pixels = torch.bincount(patches.flatten(), counts.repeat_interleave(self.stride**2), len(colours))
        self.mistake_weights = mistake_weights(pixels / pixels.sum(), self.class_balance)
        shares, cluster = kmodes(
            patches,
            counts**self.count_power,
            self.mistake_weights,
            min(self.vocab_size, len(patches)),
            self.iterations,
            torch.Generator().manual_seed(self.seed),
            on_iteration,
        )
        # the most frequent first: of equal costs the first code wins, so a cell without labels gets the commonest one
        frequency, order = torch.bincount(cluster, counts).sort(descending=True, stable=True)
        self.vocab_size = len(shares)
        self.class_probs = shares[order].movedim(2, 1).unflatten(2, (self.stride, self.stride)).contiguous()
        self.log_frequency = (frequency / counts.sum()).log()
        self._settle()

    def encode(self, maskige: Tensor) -> Tensor:
        """The code of least cost for each patch, over its labelled pixels: (B, 3, H, W) -> (B, h, w) int64 in [0, V).

        Raises:
            ValueError: if a pixel has a colour that is not of the palette.
        """
        patches = patch_classes(maskige, self._all_colours(), self.stride)
        tokens, _ = nearest_codes(patches.flatten(0, 1), self.codes, self.mistake_weights)
        return tokens.view(len(maskige), maskige.shape[-2] // self.stride, -1)

    def posterior(self, maskige: Tensor, candidates: int, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """softmax(-cost / temperature) over the codes that cost least, since a match that costs little is a likely one.

        One wrong pixel costs about 2, the weights of the two classes that it mixes up. Codes that cost the same get the
        same share at every temperature, as all of them do in a cell without labels.

        Args:
            maskige: (B, 3, H, W) float32 in [0, 1].
            candidates: k, how many codes are kept; at most V are.
            temperature: in units of cost, positive.

        Returns:
            Tokens (B, h, w, k) int64 in [0, V), the first that of `encode`, and their shares (B, h, w, k) float32,
            which sum to 1 over k.

        Raises:
            ValueError: if a pixel has a colour that is not of the palette.
        """
        patches = patch_classes(maskige, self._all_colours(), self.stride)
        tokens, costs = cheapest_codes(patches.flatten(0, 1), self.codes, self.mistake_weights, candidates)
        grid = (len(maskige), maskige.shape[-2] // self.stride, -1, tokens.shape[1])
        return tokens.view(grid), shares_of(-costs, temperature).view(grid)

    def decode(self, tokens: Tensor) -> Decoded:
        """Each token's class distributions: (B, h, w) int64 in [0, V) to class_probs (B, K, H, W) float32.

        The maskige (B, 3, H, W) float32 in [0, 1] shows the likeliest class in its exact colour.
        """
        patches = self.class_probs[tokens]  # (B, h, w, K, s, s)
        class_probs = patches.permute(0, 3, 1, 4, 2, 5).flatten(2, 3).flatten(3, 4)
        # max is several times faster than argmax on this layout
        return Decoded(lambda: self.colours[class_probs.max(dim=1).indices].movedim(-1, 1), class_probs)

    @property
    def code_table(self) -> Tensor:
        """The class distributions of each patch, flat: (V, K * stride^2) float32."""
        return self.class_probs.flatten(1)

    @property
    def code_blocks(self) -> list[tuple[Tensor, Tensor]]:
        """Class by class, the patches that show it, (R,) int64, and where they do, (R, stride^2) float32.

        A patch shows few of the K classes (of 11 in CamVid: 5.3 in the mean), the fewer the larger K is, and an average
        over blocks costs that much less than one over the whole table.
        """
        by_class = self.showing.split(self._num_showing)
        return [(tokens, self.class_probs[tokens, k].flatten(1)) for k, tokens in enumerate(by_class)]

    @property
    def cell_classes(self) -> CellClasses | None:
        """The patches themselves."""
        return CellClasses(self.class_probs, self.codes, self.least, self.most)

    def decode_mixed(self, mixed: Tensor) -> Decoded:
        """Class distributions averaged over patches: (B, K * stride^2, h, w) float32.

        The maskige (B, 3, H, W) float32 in [0, 1] is the expected colour of class_probs (B, K, H, W) float32.
        """
        with full_precision(mixed):
            class_probs = nn.functional.pixel_shuffle(mixed, self.stride)
        return Decoded(lambda: self._blended(class_probs), class_probs)

    def _blended(self, class_probs: Tensor) -> Tensor:
        """The expected colour of class_probs (B, K, H, W) float32: (B, 3, H, W) float32 in [0, 1]."""
        with full_precision(class_probs):
            return torch.einsum("bkhw,kc->bchw", class_probs, self.colours)

    def log_usage(self) -> Tensor:
        """Log-frequency of each token among the patches of the fit: (V,) float32."""
        return self.log_frequency

    def _all_colours(self) -> Tensor:
        """The palette and, last, the ignore colour: (K + 1, 3) float32 in [0, 1]."""
        return torch.cat([self.colours, self.ignore_colour[None]])

    def _settle(self) -> None:
        """Keeps what follows from the distributions.

        Of each code the likeliest class at each pixel, (V, stride^2) int64, against which patches are held, and the
        least and largest probability of each class, (K, V) float32; of each class in turn the codes that show it
        anywhere, (R,) int64.
        """
        self.codes = self.class_probs.argmax(1).flatten(1)
        least, most = self.class_probs.flatten(2).aminmax(dim=2)
        self.least, self.most = least.T.contiguous(), most.T.contiguous()
        classes, self.showing = (self.most > 0).nonzero(as_tuple=True)
        self._num_showing: list[int] = classes.bincount(minlength=self.class_probs.shape[1]).tolist()

    def _load_from_state_dict(self, state_dict: MutableMapping[str, Any], prefix: str, *args: Any) -> None:
        known = state_dict.get(prefix + "colours", self.colours)
        # a dictionary that was fitted before mistakes had weights counts all pixels alike
        state_dict.setdefault(prefix + "mistake_weights", torch.ones(len(known)))
        # the buffers' sizes are known only to the fit, so they come from the weights
        held = len(state_dict.get(f"{prefix}log_frequency", ()))
        if held > self._most:
            raise ValueError(
                f"the dictionary has {held} patches, but tokenizer.vocab_size is {self._most}: set "
                f"tokenizer.vocab_size={held}, or run stage=prior again"
            )
        for name, _ in self.named_buffers(recurse=False):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.vocab_size = len(self.log_frequency)
        if self.class_probs.ndim == 4:  # else they are missing, which the caller reports
            self._settle()
