"""X and its exact inverse: labels painted with the palette, and read back by nearest colour.

Around it, what puts pictures on a grid of token cells: rendered larger than the image, padded to whole cells, and
brought back.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gss.labels import IGNORE
from gss.maskige.palette import Palette

SCORES_AT_ONCE = 2**22  # of pixels times colours while labels are read back: 16 MiB


class MaskigeTransform(nn.Module):
    """Paints labels as a maskige and reads a maskige back as labels.

    `unpaint(paint(labels)) == labels` holds exactly, ignored pixels included.

    Args:
        palette: `colours` (K, 3) and `ignore_colour` (3,), float32 in [0, 1]; both travel with the weights.
        learned: whether the colours are a parameter, to which painting passes gradients; else they are a buffer. The
            name in the state dict is the same.
    """

    colours: Tensor
    ignore_colour: Tensor

    def __init__(self, palette: Palette, learned: bool = False) -> None:
        super().__init__()
        if learned:
            self.colours = nn.Parameter(palette.colours.clone())
        else:
            self.register_buffer("colours", palette.colours.clone())
        self.register_buffer("ignore_colour", palette.ignore_colour.clone())

    @property
    def learned(self) -> bool:
        """Whether the colours are a parameter."""
        return isinstance(self.colours, nn.Parameter)

    @property
    def palette(self) -> Palette:
        """The colours as they are now."""
        return Palette(self.colours.detach().clone(), self.ignore_colour.clone())

    def paint(self, labels: Tensor) -> Tensor:
        """X(labels): each pixel gets the colour of its class.

        Args:
            labels: (B, H, W) int64 in [0, K) or 255.

        Returns:
            maskige (B, 3, H, W) float32 in [0, 1].
        """
        table = torch.cat([self.colours, self.ignore_colour[None]])
        rows = torch.where(labels == IGNORE, len(self.colours), labels)
        return table[rows].movedim(-1, 1).contiguous()

    def paint_probs(self, class_probs: Tensor) -> Tensor:
        """X(c) = c beta, the paper's linear map: each pixel gets the mean colour under its class probabilities.

        Args:
            class_probs: (B, K, H, W) float32, one-hot or graded, sums to 1 over K.

        Returns:
            maskige (B, 3, H, W) float32 in [0, 1]; gradients reach the probabilities, and the colours if learned.
        """
        return torch.einsum("bkhw,kc->bchw", class_probs, self.colours)

    @torch.no_grad()
    def unpaint(self, maskige: Tensor, with_ignore: bool = True) -> Tensor:
        """Labels by nearest colour: argmin_k |x - colour_k|^2 of the 8-bit colour x, of equally near ones the first.

        |x|^2 is the same for every colour and left out; all else are whole numbers below 2^24, so float32 is exact.

        Args:
            maskige: (B, 3, H, W) float in [0, 1]; rounded to 8 bits, values outside are clipped.
            with_ignore: whether the ignore colour competes (255); a generated maskige is read without it.

        Returns:
            labels (B, H, W) int64 in [0, K), or 255 where the ignore colour is nearest.
        """
        colours = torch.cat([self.colours, self.ignore_colour[None]]) if with_ignore else self.colours
        colours = (colours.double() * 255).float()
        with torch.autocast(maskige.device.type, enabled=False):
            pixels = (maskige.float() * 255).round().clamp(0, 255).movedim(1, -1)
            parts = pixels.flatten(0, 2).split(max(1, SCORES_AT_ONCE // len(colours)))
            lengths = colours.square().sum(1)
            rows = torch.cat([torch.addmm(lengths, some, colours.T, alpha=-2).argmin(1) for some in parts])
        return torch.where(rows == len(self.colours), IGNORE, rows).view(pixels.shape[:-1])

    @torch.no_grad()
    def clamp_colours(self) -> None:
        """Brings learned colours back into [0, 1], after a step of their optimiser."""
        self.colours.clamp_(0, 1)

    @torch.no_grad()
    def settle_colours(self) -> None:
        """Rounds learned colours to whole 8-bit values, when their training ends: a PNG keeps them exactly.

        Raises:
            ValueError: if two colours have become one.
        """
        self.colours.copy_((self.colours.clamp(0, 1).double() * 255).round() / 255)
        self.palette.check(len(self.colours))


def enlarge_labels(labels: Tensor, scale: int) -> Tensor:
    """Every pixel becomes scale x scale pixels: (B, H, W) int64 to (B, scale * H, scale * W)."""
    return labels.repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2)


def pad_labels(labels: Tensor, stride: int) -> Tensor:
    """Adds ignored pixels below and on the right until both sides are multiples of the stride.

    Args:
        labels: (B, H, W) int64 in [0, K) or 255.
        stride: pixels per cell.

    Returns:
        labels (B, H', W') int64 with H' the least multiple of `stride` that is not below H, W' likewise.
    """
    height, width = labels.shape[-2:]
    return nn.functional.pad(labels, (0, -width % stride, 0, -height % stride), value=IGNORE)


def reduce_class_probs(class_probs: Tensor, scale: int) -> Tensor:
    """The mean over the scale x scale pixels of each image pixel.

    (B, K, scale * H, scale * W) float32 to (B, K, H, W), still summing to 1 over K.
    """
    return class_probs if scale == 1 else nn.functional.avg_pool2d(class_probs, scale)
