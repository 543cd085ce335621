"""Training-free tokens: a dictionary of maskige patches, each remembering the classes of the patches it stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gss.tokenizer.kmeans import kmeans, nearest_centre
from gss.tokenizer.protocol import Decoded, Tokenizer, check_divisible, full_precision


class PatchDictionary(Tokenizer):
    """k-means over maskige patches; a token decodes to its cluster's class distribution at each pixel.

    The centre of a cluster is the mean of its painted patches, which is the class distribution times the palette, so
    one tensor, `class_probs` (V, K, stride, stride) float32, holds both. Pixels painted in the ignore colour are left
    out of the match: a cell that is labelled in part gets the token that explains its labelled part best.

    Args:
        stride: side of a patch and of a token, in pixels.
        vocab_size: V, the number of clusters; fewer where the training maskiges have fewer distinct patches.
        iterations: Lloyd iterations.
        max_patches: distinct patches kept for the fit, the most frequent first.
        count_power: weight of a distinct patch is its count to this power: 1 minimises the pixel error, less favours
            rare patches and with them small classes.
        seed: draws the first centres.
    """

    trainable = False
    knows_classes = True
    class_probs: Tensor
    log_frequency: Tensor
    colours: Tensor
    ignore_colour: Tensor

    def __init__(
        self,
        stride: int = 8,
        vocab_size: int = 1024,
        iterations: int = 12,
        max_patches: int = 60_000,
        count_power: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.stride, self.vocab_size = stride, vocab_size
        self._most = vocab_size
        self.iterations, self.max_patches = iterations, max_patches
        self.count_power, self.seed = count_power, seed
        for name in ("class_probs", "log_frequency", "colours", "ignore_colour"):
            self.register_buffer(name, torch.empty(0))

    def fit(
        self,
        maskiges: Iterable[Tensor],
        colours: Tensor,
        ignore_colour: Tensor,
        on_iteration: Callable[[int], None] = lambda iteration: None,
    ) -> None:
        """Clusters the fully labelled patches of the training maskiges.

        Args:
            maskiges: pictures (B, 3, H, W) float32 in [0, 1] in exact palette colours.
            colours: (K, 3) float32 in [0, 1], the palette.
            ignore_colour: (3,) float32 in [0, 1].
            on_iteration: called with the number of Lloyd iterations done.

        Raises:
            ValueError: if no patch is fully labelled.
        """
        self.colours, self.ignore_colour = colours.clone(), ignore_colour.clone()
        patches, counts = self._distinct_patches(maskiges)
        points = colours[patches].flatten(1)
        centres = kmeans(
            points,
            counts**self.count_power,
            min(self.vocab_size, len(points)),
            self.iterations,
            torch.Generator().manual_seed(self.seed),
            on_iteration,
        )
        assignment, _ = nearest_centre(points, centres)
        self._remember(patches, counts, assignment)

    def encode(self, maskige: Tensor) -> Tensor:
        """Nearest centre of each patch, over its labelled pixels: (B, 3, H, W) -> (B, h, w) int64 in [0, V)."""
        check_divisible(maskige, self.stride)
        labelled = (maskige - self.ignore_colour[:, None, None]).abs().amax(1, keepdim=True) > 1e-4
        points = _unfold(maskige * labelled, self.stride)
        mask = _unfold(labelled.to(maskige), self.stride)
        centres = self.centres()
        # |x - c|^2 over labelled pixels, without |x|^2: -2 x.c + sum over labelled pixels of |c|^2
        energy = centres.square().sum(1).flatten(1)
        with full_precision(maskige):
            scores = torch.addmm(mask.flatten(0, 1) @ energy.T, points.flatten(0, 1), centres.flatten(1).T, alpha=-2)
        height, width = maskige.shape[-2] // self.stride, maskige.shape[-1] // self.stride
        return scores.argmin(1).view(-1, height, width)

    def decode(self, tokens: Tensor) -> Decoded:
        """Each token's class distributions: (B, h, w) int64 in [0, V) to class_probs (B, K, H, W) float32.

        The maskige (B, 3, H, W) float32 in [0, 1] shows the likeliest class in its exact colour.
        """
        patches = self.class_probs[tokens]  # (B, h, w, K, s, s)
        class_probs = patches.permute(0, 3, 1, 4, 2, 5).flatten(2, 3).flatten(3, 4)
        return Decoded(self.colours[class_probs.argmax(1)].movedim(-1, 1), class_probs)

    def decode_expected(self, token_probs: Tensor) -> Decoded:
        """Class distributions averaged under token_probs (B, V, h, w) float, which sums to 1 over V.

        The maskige (B, 3, H, W) float32 in [0, 1] is the expected colour of class_probs (B, K, H, W) float32.
        """
        with full_precision(token_probs):
            flat = torch.einsum("bvhw,vd->bdhw", token_probs.float(), self.class_probs.flatten(1))
            class_probs = nn.functional.pixel_shuffle(flat, self.stride)
            maskige = torch.einsum("bkhw,kc->bchw", class_probs, self.colours)
        return Decoded(maskige, class_probs)

    def log_usage(self) -> Tensor:
        """Log-frequency of each token among the patches of the fit: (V,) float32."""
        return self.log_frequency

    def centres(self) -> Tensor:
        """The mean painted patch of each token: (V, 3, stride, stride) float32 in [0, 1]."""
        with full_precision(self.class_probs):
            return torch.einsum("vkyx,kc->vcyx", self.class_probs, self.colours)

    def _distinct_patches(self, maskiges: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """Fully labelled patches by frequency, (N, stride^2) int64 in [0, K), and their counts (N,) float32."""
        counts: dict[bytes, int] = {}
        num_classes = len(self.colours)
        for maskige in maskiges:
            check_divisible(maskige, self.stride)
            classes = _colour_rows(maskige, torch.cat([self.colours, self.ignore_colour[None]]))
            patches = _unfold(classes[:, None].float(), self.stride).flatten(0, 1).byte()
            whole = patches[(patches != num_classes).all(1)].numpy()
            rows, number = np.unique(np.ascontiguousarray(whole).view(f"V{whole.shape[1]}"), return_counts=True)
            for row, count in zip(rows, number.tolist(), strict=True):
                key = row.tobytes()
                counts[key] = counts.get(key, 0) + count
        if not counts:
            raise ValueError(
                f"no patch of {self.stride}x{self.stride} pixels is fully labelled: "
                "choose a smaller tokenizer.stride, or check the ignored ids in data.label_space"
            )
        kept = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: self.max_patches]
        stored = np.frombuffer(bytearray().join(key for key, _ in kept), np.uint8).reshape(len(kept), -1)
        return torch.from_numpy(stored).long(), torch.tensor([float(count) for _, count in kept])

    def _remember(self, patches: Tensor, weights: Tensor, assignment: Tensor) -> None:
        """Keeps each cluster's classes: patches (N, stride^2) int64, weights (N,) float32, assignment (N,) int64."""
        used, assignment = assignment.unique(return_inverse=True)
        self.vocab_size = len(used)
        flat = torch.zeros(self.vocab_size, patches.shape[1], len(self.colours))
        pixel = torch.arange(patches.shape[1])
        for token, patch, weight in zip(assignment.split(4096), patches.split(4096), weights.split(4096), strict=True):
            flat.index_put_((token[:, None], pixel, patch), weight[:, None].expand_as(patch), accumulate=True)
        mass = flat[:, 0].sum(1)
        self.class_probs = (flat / mass[:, None, None]).movedim(2, 1).unflatten(2, (self.stride, self.stride))
        self.log_frequency = (mass / mass.sum()).log()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
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


def _unfold(picture: Tensor, stride: int) -> Tensor:
    """(B, C, H, W) as rows of patches (B, h * w, C * stride^2) of the same dtype, the channel running slowest."""
    return nn.functional.pixel_unshuffle(picture, stride).flatten(2).transpose(1, 2)


def _colour_rows(maskige: Tensor, colours: Tensor) -> Tensor:
    """Row of each pixel's exact colour: (B, 3, H, W) and (M, 3), float32 in [0, 1], to (B, H, W) int64 in [0, M)."""
    base = torch.tensor([1 << 16, 1 << 8, 1])
    codes = ((colours * 255).round().long() * base).sum(1)
    pixels = ((maskige * 255).round().long() * base[:, None, None]).sum(1)
    ordered, order = codes.sort()
    return order[torch.searchsorted(ordered, pixels)]
