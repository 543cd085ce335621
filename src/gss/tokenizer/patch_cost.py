"""What it costs to show one patch of classes for another: by how much a pixel's mistake lowers the mIoU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CODES_AT_ONCE = 1024  # their cost tables stay in a core's cache, which makes the look-up several times faster
PATCHES_AT_ONCE = 4096  # bounds memory to PATCHES_AT_ONCE x CODES_AT_ONCE floats


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
        found = [_cheapest(chunk, table, number) for chunk in rows.split(PATCHES_AT_ONCE)]
        least, index = (torch.cat(parts) for parts in zip(*found, strict=True))
        cost, place = _lowest(torch.cat([cost, least], dim=1), number)
        best = torch.cat([best, index + start], dim=1).gather(1, place)
    return best, cost


def _cheapest(rows: Tensor, table: Tensor, number: int) -> tuple[Tensor, Tensor]:
    return _lowest(nn.functional.embedding_bag(rows, table, mode="sum"), number)


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
