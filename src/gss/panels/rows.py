"""One line of the panel: what is known about a photograph, and the pictures drawn from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from gss.labels import LabelSpace
from gss.overlay import Pixels, colour_labels, to_pixels
from gss.panels.readings import error_map, heat, share_right, uncertainty

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PanelRow:
    """All that is known about one photograph; None for what the network does not make (the pixel twin).

    Args:
        name: the photograph's name.
        image: (3, H, W) float32 in [0, 1].
        labels: (H, W) int64 train ids, 255 = ignore.
        maskige: (3, H, W) float32 in [0, 1], X(labels).
        decoded_maskige: (3, scale * H, scale * W) float32 in [0, 1], generated from the photograph.
        predicted_labels: (H, W) int64 train ids, [0, K).
        class_probs: (K, H, W) float32, sums to 1 over K; None leaves the doubt undrawn.
        miou: of this picture alone, in [0, 1], told below the error map; None where nobody measured it.
    """

    name: str
    image: Tensor
    labels: Tensor
    maskige: Tensor | None
    decoded_maskige: Tensor | None
    predicted_labels: Tensor
    class_probs: Tensor | None
    miou: float | None = None

    def __post_init__(self) -> None:
        """Hold the pictures to one size."""
        height, width = self.image.shape[-2:]
        pictures = (self.labels, self.maskige, self.predicted_labels, self.class_probs)
        assert all(picture is None or picture.shape[-2:] == (height, width) for picture in pictures), self.name
        if self.decoded_maskige is not None:
            scale = self.decoded_maskige.shape[-2] // height
            assert self.decoded_maskige.shape[-2:] == (scale * height, scale * width), self.name


class Cell(NamedTuple):
    """One picture: its pixels, (H, W, 3) uint8, whether shrinking may blend them, and its caption."""

    pixels: Pixels | None
    blend: bool = False
    caption: str = ""


def cells(row: PanelRow, label_space: LabelSpace) -> dict[str, Cell]:
    """Draw a row's pictures, (H, W, 3) uint8 at their own size, by column title, from left to right."""
    return {
        "photograph": Cell(to_pixels(row.image), blend=True, caption=row.name),
        "labels": Cell(colour_labels(row.labels, label_space)),
        "maskige": _maskige(row.maskige),
        "decoded maskige": _maskige(row.decoded_maskige),
        "predicted labels": Cell(colour_labels(row.predicted_labels, label_space)),
        "error map": _errors(row),
        "uncertainty": _doubt(row.class_probs),
    }


def _maskige(maskige: Tensor | None) -> Cell:
    """Turn a maskige (3, H, W) float in [0, 1] into a cell; None leaves it empty."""
    return Cell(None if maskige is None else to_pixels(maskige))


def _errors(row: PanelRow) -> Cell:
    """Draw where a row is wrong, and say how much of it is right."""
    right = share_right(row.labels, row.predicted_labels)
    caption = "no labels" if right is None else f"{100 * right:.1f} % right"
    if row.miou is not None:
        caption = f"mIoU {100 * row.miou:.1f} %, {caption}"
    return Cell(error_map(row.image, row.labels, row.predicted_labels), caption=caption)


def _doubt(class_probs: Tensor | None) -> Cell:
    """Turn class_probs (K, H, W) float32 into a cell of their entropy; None leaves it empty."""
    if class_probs is None:
        return Cell(None)
    doubt = uncertainty(class_probs)
    return Cell(heat(doubt), blend=True, caption=f"mean {doubt.mean():.2f}")
