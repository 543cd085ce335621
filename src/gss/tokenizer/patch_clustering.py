"""Weighted k-modes over patches of classes, for a hundred thousand patches on a CPU.

Maskiges are cut into patches, each distinct one once with how often it occurs. Showing one patch for another costs what
the mistakes take from the mIoU; codes are patches themselves, chosen to lower the summed cost of the nearest code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from gss.tokenizer.base import check_divisible

CODES_AT_ONCE = 1024  # their cost tables stay in a core's cache, which makes the look-up several times faster
PATCHES_AT_ONCE = 4096  # bounds memory to PATCHES_AT_ONCE x CODES_AT_ONCE floats
HEAVIEST, GROWTH = 16, 4  # the start is so many patches, then grows by a quarter per round, sampled by remaining cost


def kmodes(
    patches: Tensor,
    counts: Tensor,
    weights: Tensor,
    num_codes: int,
    iterations: int,
    generator: torch.Generator,
    on_iteration: Callable[[int], None] = lambda iteration: None,
) -> tuple[Tensor, Tensor]:
    """Codes that lower the summed cost of the nearest code, by Lloyd's iterations.

    It starts as k-means++ does, from patches sampled in proportion to what they would cost. The best code of a cluster
    shows the majority class at each pixel. One that loses all its patches moves to the patch that costs most.

    Args:
        patches: (N, P) int64 in [0, K), distinct, N >= num_codes.
        counts: (N,) float32, positive, what each patch counts.
        weights: (K,) float32, what each class counts in a mistake.
        num_codes: V.
        iterations: number of Lloyd iterations.
        generator: of the random start.
        on_iteration: called with the number of iterations done.

    Returns:
        Class shares of each cluster (V', P, K) float32, whose likeliest classes are the codes, and each patch's cluster
        (N,) int64 in [0, V'), with V' = V or less where codes stand for no patch in the end.
    """
    assert len(patches) >= num_codes, (len(patches), num_codes)
    codes = patches[_start(patches, counts, weights, num_codes, generator)]
    for iteration in range(iterations):
        cluster, cost = nearest_codes(patches, codes, weights)
        codes = _class_mass(patches, counts, cluster, num_codes, len(weights)).argmax(2)
        dead = torch.bincount(cluster, minlength=num_codes) == 0
        codes[dead] = patches[(cost * counts).topk(int(dead.sum())).indices]
        on_iteration(iteration + 1)
    cluster, _ = nearest_codes(patches, codes, weights)
    used, cluster = cluster.unique(return_inverse=True)
    mass = _class_mass(patches, counts, cluster, len(used), len(weights))
    return mass / mass.sum(2, keepdim=True), cluster


def nearest_codes(patches: Tensor, codes: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The code that costs least for each patch: the sum of w_k + w_j over pixels of class k that it shows as j.

    That sum is a look-up per pixel in a table over pixels, classes and codes, so its time does not grow with K.

    Args:
        patches: (N, P) int64 in [0, K], where K stands for an ignored pixel, which costs nothing.
        codes: (V, P) int64 in [0, K).
        weights: (K,) float32, as `mistake_weights` gives them.

    Returns:
        Index of the code (N,) int64 in [0, V), of equally good ones the first, and its cost (N,) float32.
    """
    best, cost = cheapest_codes(patches, codes, weights, 1)
    return best[:, 0], cost[:, 0]


def cheapest_codes(patches: Tensor, codes: Tensor, weights: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The codes that cost least for each patch, the cheapest first: k codes, where there are as many.

    Args:
        patches: (N, P) int64 in [0, K], where K stands for an ignored pixel, which costs nothing.
        codes: (V, P) int64 in [0, K).
        weights: (K,) float32, as `mistake_weights` gives them.
        number: k.

    Returns:
        Indices of codes (N, k) int64 in [0, V), of equally good ones the first, and their costs (N, k) float32.
    """
    step = len(weights) + 1
    rows = patches + step * torch.arange(patches.shape[1], device=patches.device)
    best, cost = rows[:, :0], weights.new_zeros(len(rows), 0, dtype=torch.float32)
    for start in range(0, len(codes), CODES_AT_ONCE):
        table = _cost_table(codes[start : start + CODES_AT_ONCE], weights).flatten(0, 1)
        found = [
            _lowest(nn.functional.embedding_bag(chunk, table, mode="sum"), number)
            for chunk in rows.split(PATCHES_AT_ONCE)
        ]
        least, index = (torch.cat(parts) for parts in zip(*found, strict=True))
        cost, place = _lowest(torch.cat([cost, least], dim=1), number)
        best = torch.cat([best, index + start], dim=1).gather(1, place)
    return best, cost


def mistake_weights(shares: Tensor, power: float) -> Tensor:
    """What a class counts in a mistake: share^-power, scaled so that the mean over pixels is 1.

    A pixel of class k shown as class j adds one to the unions of both, so to first order it lowers the mIoU by
    1 / N_k + 1 / N_j over K, with N the pixels of a class. Power 1 is that; 0 counts every wrong pixel alike.

    Args:
        shares: (K,) float, each class's share of the pixels.
        power: from 0 on.

    Returns:
        (K,) float32; a class without pixels counts as the rarest one that has any.
    """
    rarest = shares[shares > 0].min()
    weights = shares.double().clamp(min=float(rarest)) ** -power
    return (weights / (weights * shares).sum()).float()


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


def _start(patches: Tensor, counts: Tensor, weights: Tensor, num_codes: int, generator: torch.Generator) -> Tensor:
    """Rows (V,) int64 of distinct patches: the heaviest, then sampled by count times cost to the nearest so far."""
    rows = counts.topk(min(HEAVIEST, num_codes)).indices
    cost = nearest_codes(patches, patches[rows], weights)[1]
    while (missing := num_codes - len(rows)) > 0:
        pull = (cost * counts).double().clamp(min=torch.finfo(torch.float64).tiny)
        pull[rows] = 0
        sampled = torch.multinomial(pull, min(max(len(rows) // GROWTH, 1), missing), generator=generator)
        cost = torch.minimum(cost, nearest_codes(patches, patches[sampled], weights)[1])
        rows = torch.cat([rows, sampled])
    return rows


def _class_mass(patches: Tensor, counts: Tensor, cluster: Tensor, num_codes: int, num_classes: int) -> Tensor:
    """Summed counts of each class at each pixel of each cluster: (V, P, K) float32."""
    num_pixels = patches.shape[1]
    mass, pixel = torch.zeros(num_codes * num_pixels * num_classes), torch.arange(num_pixels)
    for token, patch, count in zip(*(rows.split(PATCHES_AT_ONCE) for rows in (cluster, patches, counts)), strict=True):
        cell = ((token[:, None] * num_pixels + pixel) * num_classes + patch).flatten()
        mass.index_add_(0, cell, count[:, None].expand_as(patch).flatten())
    return mass.view(num_codes, num_pixels, num_classes)


def _lowest(costs: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The least of each row (N, M), rising, and their places, of equal ones the first; costs are used up."""
    values: list[Tensor] = []
    places: list[Tensor] = []
    for taken in range(min(number, costs.shape[1])):  # `topk` would not say which of equal ones comes first
        if taken:
            costs.scatter_(1, places[-1][:, None], torch.inf)
        least = costs.min(dim=1)
        values.append(least.values)
        places.append(least.indices)
    return torch.stack(values, dim=1), torch.stack(places, dim=1)


def _cost_table(codes: Tensor, weights: Tensor) -> Tensor:
    """Cost of each class at each pixel of each code: (P, K + 1, V) float32, 0 for an ignored pixel."""
    true = torch.cat([weights, weights.new_zeros(1)])[:, None]
    shown = codes.T[:, None]  # (P, 1, V)
    wrong = torch.arange(len(true), device=codes.device)[:, None] != shown
    wrong[:, -1] = False
    return torch.where(wrong, true + weights[shown], 0.0)
