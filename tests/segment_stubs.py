"""Networks that can be computed by hand, in the form in which inference takes a segmenter."""

from __future__ import annotations

import numpy as np
import torch


def drawn(*shape, seed=0):
    """An image (1, 3, H, W) float32 in [0, 1] of noise."""
    return torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(seed))


def pixelwise(shown):
    """class_probs (N, 3, h, w) of a network that looks at single pixels: what it says does not depend on windows."""
    yield "expected", (4 * shown).softmax(1)


def by_place(shown):
    """class_probs (N, 3, h, w) that depend on where a pixel lies within its window, so that overlaps disagree."""
    height, width = shown.shape[-2:]
    ramp = torch.linspace(-1, 1, height)[:, None] + torch.linspace(-1, 1, width) ** 2
    yield "expected", torch.stack([shown[:, 0] + ramp, shown[:, 1] - ramp, shown[:, 2]], 1).softmax(1)
    yield "pixel", torch.stack([shown[:, 0] - ramp, shown[:, 1], shown[:, 2] + 2 * ramp], 1).softmax(1)


def averaged_by_numpy(segment, image, window, step, weights):
    """The average over sliding windows, as its formula says: whole pictures, in double precision."""
    height, width = image.shape[-2:]
    window = [min(side, length) for side, length in zip(window, (height, width), strict=True)]
    weight = np.outer(weights[0], weights[1])
    total, seen = 0, np.zeros((height, width))
    for top in sorted({min(y, height - window[0]) for y in range(0, height - window[0] + step[0], step[0])}):
        for left in sorted({min(x, width - window[1]) for x in range(0, width - window[1] + step[1], step[1])}):
            place = np.s_[top : top + window[0], left : left + window[1]]
            said = dict(segment(image[(..., *place)]))["expected"][0].double().numpy()
            whole = np.zeros((3, height, width))
            whole[(slice(None), *place)] = weight * said
            total = total + whole
            seen[place] += weight
    return total / seen
