"""Maskiges cut into patches of classes: each distinct one once, with how often it occurs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from gss.tokenizer.protocol import check_divisible


def count_patches(maskiges: Iterable[Tensor], colours: Tensor, stride: int, most: int) -> tuple[Tensor, Tensor]:
    """Fully labelled patches, the most frequent first.

    Args:
        maskiges: pictures (B, 3, H, W) float32 in [0, 1] in exact colours, with sides that are multiples of `stride`.
        colours: (K + 1, 3) float32 in [0, 1], the palette and, last, the ignore colour.
        stride: side of a patch, in pixels.
        most: how many distinct patches are kept.

    Returns:
        Patches (N, stride^2) int64 in [0, K), and their counts (N,) float32.

    Raises:
        ValueError: if no patch is fully labelled.
    """
    counts: Counter[bytes] = Counter()
    for maskige in maskiges:
        patches = patch_classes(maskige, colours, stride).flatten(0, 1).byte()
        whole = patches[(patches != len(colours) - 1).all(1)].numpy()
        rows, number = np.unique(np.ascontiguousarray(whole).view(f"V{whole.shape[1]}"), return_counts=True)
        counts.update({row.tobytes(): count for row, count in zip(rows, number.tolist(), strict=True)})
    if not counts:
        raise ValueError(
            f"no patch of {stride}x{stride} pixels is fully labelled: "
            "choose a smaller tokenizer.stride, or check the ignored ids in data.label_space"
        )
    kept = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]
    stored = np.frombuffer(bytearray().join(key for key, _ in kept), np.uint8).reshape(len(kept), -1)
    return torch.from_numpy(stored).long(), torch.tensor([float(count) for _, count in kept])


def patch_classes(maskige: Tensor, colours: Tensor, stride: int) -> Tensor:
    """The classes of each patch of a maskige; K, the last colour's row, stands for an ignored pixel.

    Args:
        maskige: (B, 3, H, W) float32 in [0, 1].
        colours: (K + 1, 3) float32 in [0, 1], the palette and, last, the ignore colour.
        stride: side of a patch, in pixels.

    Returns:
        (B, h * w, stride^2) int64 in [0, K].

    Raises:
        ValueError: if a side is no multiple of `stride`, or a pixel has a colour that is not of the palette.
    """
    check_divisible(maskige, stride)
    base = torch.tensor([1 << 16, 1 << 8, 1], device=maskige.device)
    codes = ((colours * 255).round().long() * base).sum(1)
    pixels = ((maskige * 255).round().long() * base[:, None, None]).sum(1)
    ordered, order = codes.sort()
    rows = torch.searchsorted(ordered, pixels).clamp_(max=len(ordered) - 1)
    if not ordered[rows].equal(pixels):
        raise ValueError(
            "tokenizer=patches reads maskiges in the exact colours that it was fitted to, but there are others: "
            "paint labels with the palette of the same artefact"
        )
    patches = nn.functional.pixel_unshuffle(order[rows][:, None].float(), stride)
    return patches.flatten(2).transpose(1, 2).long()
