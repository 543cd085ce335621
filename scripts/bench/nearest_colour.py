"""Reading labels off a maskige: our table of blocks of 8-bit colours against distances to every colour."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.harness import MIB, Effort, Row, peak_memory, time_in_turn
from gss.maskige.nearest import NearestColourTable
from gss.maskige.palette import max_distance_palette

SIZE = (512, 512)
NOISE = 12.0  # standard deviation in 8-bit steps: a decoded maskige is never clean
TIME_BAR = 20.0
MEMORY_BARS = {19: 10.0, 150: 50.0}


def measure(effort: Effort) -> list[Row]:
    """Time and peak memory, with as many classes as Cityscapes and ADE20K have."""
    return [row for num_classes in MEMORY_BARS for row in _measure(num_classes, effort)]


def broadcast(maskige: Tensor, colours: Tensor) -> Tensor:
    """Nearest colour as the published decoder finds it, by way of (B, K, 3, H, W) differences.

    Args:
        maskige: (B, 3, H, W) float32 in [0, 1].
        colours: (K, 3) float32 in [0, 1].

    Returns:
        labels (B, H, W) int64 in [0, K).
    """
    return (maskige[:, None] - colours[:, :, None, None]).square().sum(2).argmin(1)


def noisy_maskige(colours: Tensor, seed: int = 0) -> Tensor:
    """Blocks of palette colours with noise, rounded to 8 bits: (1, 3, H, W) float32 in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(len(colours), (SIZE[0] // 32, SIZE[1] // 32), generator=generator)
    rows = blocks.repeat_interleave(32, 0).repeat_interleave(32, 1)
    noise = NOISE * torch.randn(*SIZE, 3, generator=generator)
    return ((255 * colours[rows] + noise).round().clamp(0, 255) / 255).movedim(-1, 0)[None].contiguous()


def tied(maskige: Tensor, colours: Tensor) -> Tensor:
    """Where two colours are equally near, so that any answer is right: (B, H, W) bool.

    Whole 8-bit steps make the squared distances whole numbers, so a tie is exact.
    """
    pixels = (255 * maskige).round().int()
    least = torch.full_like(pixels[:, 0], 3 * 255**2 + 1)
    twice = torch.zeros_like(least, dtype=torch.bool)
    for colour in (255 * colours).round().int():
        distance = (pixels - colour[:, None, None]).square().sum(1, dtype=torch.int32)
        twice = (twice & (distance >= least)) | (distance == least)
        least = torch.minimum(least, distance)
    return twice


def _measure(num_classes: int, effort: Effort) -> list[Row]:
    colours = max_distance_palette(num_classes).colours
    maskige, table = noisy_maskige(colours), NearestColourTable(colours)
    differ = table(maskige) != broadcast(maskige, colours)
    assert not (differ & ~tied(maskige, colours)).any(), f"labels differ away from ties, K={num_classes}"

    def ours() -> Tensor:
        return table(maskige)

    def other() -> Tensor:
        return broadcast(maskige, colours)

    name = f"nearest_colour_{num_classes}"
    held = peak_memory(ours) + table.num_bytes / MIB  # the table is built once per palette, then held
    memory = Row(f"{name}_memory", (held,), (peak_memory(other),), "MiB", MEMORY_BARS[num_classes])
    return [time_in_turn(name, ours, other, TIME_BAR, effort), memory]
