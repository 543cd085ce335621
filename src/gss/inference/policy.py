"""How images are shown to the network: at which scale, whole or in windows, once or in several views."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from gss.inference.sliding_window import BLENDS, Band, Segment, Size, assembled, enlarged, likeliest, window_bands
from gss.registry import one_of

NAMES = ("whole", "window")
SCALES = ("trained", "native", "short_side")


@dataclass(frozen=True)
class Inference:
    """From images to class probabilities at their own size.

    A view is the image at some scale, perhaps mirrored. It is shown whole or in windows; overlapping windows,
    and views brought back to the image's size, are averaged in class_probs.

    Args:
        trained: (height, width) in pixels that the network was trained at.
        stride: pixels per token.
        name: whole, or window.
        scale: trained (the trained area, the image's proportions), native (as large as it is), or short_side.
        short_side: of scale=short_side, pixels.
        long_side: that scale=short_side does not exceed, pixels.
        window: (height, width) of name=window.
        step: from one window to the next, down and across.
        blend: what the pixels of a window count in overlaps: uniform, hann or gaussian.
        window_batch: windows that go through the network at once.
        flip: whether each view is also shown mirrored.
        scales: of the views, times the scale above.

    Raises:
        ValueError: for a setting out of range, with its key.
    """

    trained: Size
    stride: int
    name: str = "whole"
    scale: str = "trained"
    short_side: int = 512
    long_side: int = 2048
    window: Size = (768, 768)
    step: Size = (512, 512)
    blend: str = "uniform"
    window_batch: int = 1
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for key, known in {"name": NAMES, "scale": SCALES, "blend": tuple(BLENDS)}.items():
            one_of(known, f"inference.{key}", getattr(self, key))
        for key in ("short_side", "long_side", "window_batch"):
            if not _whole(given := getattr(self, key)):
                raise ValueError(f"inference.{key} needs a whole number above 0, got {given}")
        for key in ("window", "step"):
            given = getattr(self, key)
            if not isinstance(given, tuple) or len(given) != 2 or not all(map(_whole, given)):
                raise ValueError(f"inference.{key} needs two whole numbers above 0 (height, width), got {given}")
        if any(step > side for step, side in zip(self.step, self.window, strict=True)):
            raise ValueError(
                f"inference.step={list(self.step)} leaves pixels between windows of inference.window="
                f"{list(self.window)} that the network never sees: choose a step of at most a window"
            )
        if not isinstance(self.scales, tuple) or not self.scales or not all(factor > 0 for factor in self.scales):
            raise ValueError(f"inference.scales needs numbers above 0, got {self.scales}; (1.0,) is one view")

    @property
    def sees_whole(self) -> bool:
        """Whether the network sees the whole image, and once: then one output of it is all that there is."""
        return self.name == "whole" and not self.flip and len(self.scales) == 1

    @property
    def _once(self) -> float:
        """The scale of the one view to which several are reduced where one has to do."""
        return self.scales[0] if len(self.scales) == 1 else 1.0

    def size(self, height: int, width: int, factor: float = 1.0) -> Size:
        """(height, width) in pixels of an image as a view shows it, on which windows are laid."""
        if self.scale == "trained":
            return trained_size(height, width, self.trained, self.stride, factor)
        if self.scale == "native":
            return scaled_size(height, width, factor)
        return short_side_size(height, width, self.short_side * factor, self.long_side * factor)

    @torch.no_grad()
    def bands(self, segment: Segment, image: Tensor) -> Iterator[Band]:
        """class_probs of every readout at the images' size, from top to bottom, each row once.

        Args:
            segment: what is asked of every view or window.
            image: (B, 3, H, W) float32 in [0, 1].
        """
        views = [(factor, mirrored) for factor in self.scales for mirrored in (False, True)[: 1 + self.flip]]
        if len(views) == 1:
            yield from self._view(segment, image, *views[0])
            return
        mean: dict[str, Tensor] = {}
        for view in views:
            for top, class_probs in self._view(segment, image, *view):
                for readout, part in class_probs.items():
                    if readout not in mean:
                        mean[readout] = part.new_zeros(*part.shape[:2], *image.shape[-2:])
                    mean[readout][..., top : top + part.shape[-2], :].add_(part, alpha=1 / len(views))
        yield Band(0, mean)

    def __call__(self, segment: Segment, image: Tensor) -> dict[str, Tensor]:
        """class_probs (B, K, H, W) float32 of each readout, sums to 1 over K, of images (B, 3, H, W) in [0, 1]."""
        return assembled(self.bands(segment, image), image.shape[-2])

    def labels(self, segment: Segment, image: Tensor) -> dict[str, Tensor]:
        """Likeliest class (B, H, W) int64 in [0, K) by readout, of images (B, 3, H, W) float32 in [0, 1]."""
        return likeliest(self.bands(segment, image))

    def reconstructed(self, class_probs_of: Callable[[Tensor], Tensor], labels: Tensor) -> Tensor:
        """The ceiling's labels (B, H, W) int64 in [0, K): at the size and in the windows that the network would see.

        Args:
            class_probs_of: maps labels (N, h, w) int64 in [0, K) or 255 to class_probs (N, K, h, w) float32.
            labels: (B, H, W) int64 in [0, K) or 255; of several views only one is taken.
        """

        def segment(shown: Tensor) -> Iterator[tuple[str, Tensor]]:
            """The only readout of labels."""
            yield "ceiling", class_probs_of(shown)

        once = replace(self, flip=False, scales=(self._once,))
        return likeliest(once.bands(segment, labels))["ceiling"]

    def glance(self, picture: Tensor) -> Tensor:
        """What the network is shown at once: a whole image or label map, or the window in its middle.

        Args:
            picture: image (B, 3, H, W) float32 in [0, 1], or labels (B, H, W) int64.
        """
        height, width = picture.shape[-2:]
        shown = resized(picture, self.size(height, width, self._once))
        if self.name == "whole":
            return shown
        for axis, side in zip((-2, -1), self.window, strict=True):
            length = shown.shape[axis]
            shown = shown.narrow(axis, max(length - side, 0) // 2, min(side, length))
        return shown

    def _view(self, segment: Segment, picture: Tensor, factor: float, mirrored: bool) -> Iterator[Band]:
        """Bands at the picture's own size of one view of it."""
        height, width = picture.shape[-2:]
        size = self.size(height, width, factor)
        shown = resized(picture, size)
        window = self.window if self.name == "window" else size
        bands = window_bands(
            segment, shown.flip(-1) if mirrored else shown, window, self.step, self.blend, self.window_batch
        )
        for top, class_probs in enlarged(bands, size, (height, width)):
            yield Band(top, {key: part.flip(-1) if mirrored else part for key, part in class_probs.items()})


def build_inference(settings: Mapping[str, Any] | None, trained: Size, stride: int) -> Inference:
    """The policy that the config group `inference` describes.

    Args:
        settings: of the group; what is left out or None stays at its default: whole, at the trained scale.
        trained: (height, width) in pixels that the network was trained at.
        stride: pixels per token.

    Raises:
        ValueError: for a key that there is not, or a setting out of range.
    """
    given = {key: value for key, value in (settings or {}).items() if value is not None}
    known = [field.name for field in fields(Inference)][2:]
    if unknown := sorted(given.keys() - set(known)):
        raise ValueError(f"there is no inference.{unknown[0]}; there are: {', '.join(known)}")
    lists = {key: tuple(value) for key, value in given.items() if isinstance(value, list)}
    return Inference(trained, stride, **{**given, **lists})


def trained_size(height: int, width: int, trained: Size, stride: int, factor: float = 1.0) -> Size:
    """The area that the network was trained at, in the image's own proportions.

    Args:
        height: of the image, pixels.
        width: of the image, pixels.
        trained: (height, width) that the network was trained at.
        stride: pixels per token; both sides become multiples of it, at least one token.
        factor: by which both sides are longer.

    Returns:
        (height, width) in pixels; exactly `trained` for an image of that size.
    """
    if factor == 1 and (height, width) == tuple(trained):
        return height, width
    scale = factor * math.sqrt(trained[0] * trained[1] / (height * width))
    sides = (max(1, round(side * scale / stride)) * stride for side in (height, width))
    return next(sides), next(sides)


def short_side_size(height: int, width: int, short: float, longest: float) -> Size:
    """The short side at `short` pixels, unless the long side would be longer than `longest`; proportions kept."""
    scale = min(short / min(height, width), longest / max(height, width))
    return scaled_size(height, width, scale)


def scaled_size(height: int, width: int, factor: float) -> Size:
    """Both sides times a factor, at least one pixel, halves rounded up."""
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


def resized(picture: Tensor, size: Size) -> Tensor:
    """An image or a label map at another size.

    Args:
        picture: image (B, 3, H, W) float32 in [0, 1], which is resized smoothly; or labels (B, H, W) int64, by nearest
            neighbour.
        size: (height, width) in pixels.
    """
    height, width = picture.shape[-2:]
    if (height, width) == size:
        return picture
    if picture.is_floating_point():
        smooth = nn.functional.interpolate(picture, size=size, mode="bilinear", antialias=True, align_corners=False)
        return smooth.clamp(0, 1)
    rows, columns = (
        ((torch.arange(wanted, device=picture.device) + 0.5) * (there / wanted)).long().clamp(max=there - 1)
        for there, wanted in zip((height, width), size, strict=True)
    )
    return picture[..., rows[:, None], columns]


def _whole(value: Any) -> bool:
    """Whether a value is a whole number above 0."""
    return type(value) is int and value > 0
