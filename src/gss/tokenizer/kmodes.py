"""Weighted k-modes: codes that are patches of classes themselves, for a hundred thousand patches on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gss.tokenizer.patch_cost import nearest_codes

FIRST_DRAW, GROWTH = 16, 4  # the start grows by a quarter per round, each round drawn by what the last one left
ROWS = 4096  # patches counted at once


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

    It starts as k-means++ does, from patches drawn in proportion to what they would cost. The best code of a cluster
    shows the majority class at each pixel. One that loses all its patches moves to the patch that costs most.

    Args:
        patches: (N, P) int64 in [0, K), distinct, N >= num_codes.
        counts: (N,) float32, positive, what each patch counts.
        weights: (K,) float32, what each class counts in a mistake.
        num_codes: V.
        iterations: number of Lloyd iterations.
        generator: draws the start.
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


def _start(patches: Tensor, counts: Tensor, weights: Tensor, num_codes: int, generator: torch.Generator) -> Tensor:
    """Rows (V,) int64 of distinct patches: the heaviest ones, then drawn by count times cost to the nearest so far."""
    rows = counts.topk(min(FIRST_DRAW, num_codes)).indices
    cost = nearest_codes(patches, patches[rows], weights)[1]
    while (missing := num_codes - len(rows)) > 0:
        pull = (cost * counts).double().clamp(min=torch.finfo(torch.float64).tiny)
        pull[rows] = 0
        drawn = torch.multinomial(pull, min(max(len(rows) // GROWTH, 1), missing), generator=generator)
        cost = torch.minimum(cost, nearest_codes(patches, patches[drawn], weights)[1])
        rows = torch.cat([rows, drawn])
    return rows


def _class_mass(patches: Tensor, counts: Tensor, cluster: Tensor, num_codes: int, num_classes: int) -> Tensor:
    """Summed counts of each class at each pixel of each cluster: (V, P, K) float32."""
    num_pixels = patches.shape[1]
    mass, pixel = torch.zeros(num_codes * num_pixels * num_classes), torch.arange(num_pixels)
    for token, patch, count in zip(cluster.split(ROWS), patches.split(ROWS), counts.split(ROWS), strict=True):
        cell = ((token[:, None] * num_pixels + pixel) * num_classes + patch).flatten()
        mass.index_add_(0, cell, count[:, None].expand_as(patch).flatten())
    return mass.view(num_codes, num_pixels, num_classes)
