"""The panel: what is known about some images as pictures side by side, from labels to errors, and a colour legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image
from PIL.ImageDraw import Draw

from gss.display.colours import Colour, Pixels, colour_labels, ignore_colour, to_array, to_pixels
from gss.display.legend import FAINT, INK, PAPER, RULE, Entry, Style, draw_legend, shorten, stack, text_width
from gss.display.readings import error_map, heat, share_right, uncertainty
from gss.labels import IGNORE, LabelSpace

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PanelRow:
    """All that is known about one image; None for what the network does not make (the pixel twin).

    Args:
        name: the image's name.
        image: (3, H, W) float32 in [0, 1].
        labels: (H, W) int64 train ids, 255 = ignore.
        maskige: (3, H, W) float32 in [0, 1], X(labels).
        decoded_maskige: (3, scale * H, scale * W) float32 in [0, 1], generated from the image.
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


def draw_panel(
    rows: Sequence[PanelRow], label_space: LabelSpace, palette: Tensor | None, cell_width: int = 256
) -> Image.Image:
    """Draw one line of pictures per row under common titles, and a colour legend below.

    Small pictures are enlarged by whole factors, large ones shrunk to about `cell_width`; colours that
    stand for classes are never blended. A column that no row fills is left out.

    Args:
        rows: at least one; sizes may differ from row to row.
        label_space: K class names and display colours.
        palette: (K, 3) float in [0, 1], the maskige's colours; None where there is no maskige.
        cell_width: the width of one picture in pixels; type and distances follow it.

    Raises:
        ValueError: there is no row to draw.
    """
    if not rows:
        raise ValueError(f"a panel needs an image, got {len(rows)}; raise callbacks.panels.num_rows")
    style = Style(cell_width)
    lines = [cells(row, label_space) for row in rows]
    titles = [title for title in lines[0] if any(line[title].pixels is not None for line in lines)]
    sizes = [_shown_size(line["image"], cell_width) for line in lines]
    widest_title = max(text_width(title, style.title) for title in titles)
    step = max(widest_title + style.gap, *(width for width, _ in sizes)) + style.gap
    inner = len(titles) * step - style.gap
    legend = draw_legend(_class_entries(rows, label_space, palette), inner, style, "uncertainty" in titles)
    strips = [_titles(titles, step, inner + 2, style)]  # pictures have a frame of one pixel, hence 2 more
    strips += [_strip(line, titles, size, step, inner + 2, style) for line, size in zip(lines, sizes, strict=True)]
    pictures = stack(strips, inner + 2)
    size = (legend.width + 2 * style.margin, pictures.height + legend.height + style.gap + 2 * style.margin)
    panel = Image.new("RGB", size, PAPER)
    panel.paste(pictures, (style.margin - 1, style.margin))  # a frame of one pixel hangs out on each side
    panel.paste(legend, (style.margin, style.margin + pictures.height + style.gap))
    return panel


class Cell(NamedTuple):
    """One picture: its pixels, (H, W, 3) uint8, whether shrinking may blend them, and its caption."""

    pixels: Pixels | None
    blend: bool = False
    caption: str = ""


def cells(row: PanelRow, label_space: LabelSpace) -> dict[str, Cell]:
    """Draw a row's pictures, (H, W, 3) uint8 at their own size, by column title, from left to right."""
    return {
        "image": Cell(to_pixels(row.image), blend=True, caption=row.name),
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


def _shown_size(cell: Cell, cell_width: int) -> tuple[int, int]:
    """Choose the (width, height) on the panel: whole factors up, a common width (or height) down."""
    assert cell.pixels is not None
    height, width = cell.pixels.shape[:2]
    scale = min(cell_width / width, 1.25 * cell_width / height)
    if scale >= 0.8:  # nearly fits: pixel for pixel looks better than blurred by a few per cent
        scale = max(1, round(scale))
    return max(1, round(scale * width)), max(1, round(scale * height))


def _titles(titles: Sequence[str], step: int, width: int, style: Style) -> Image.Image:
    strip = Image.new("RGB", (width, style.line), PAPER)
    for column, title in enumerate(titles):
        Draw(strip).text((1 + column * step, style.line // 2), title, INK, style.title, anchor="lm")
    return strip


def _strip(
    line: dict[str, Cell], titles: Sequence[str], size: tuple[int, int], step: int, width: int, style: Style
) -> Image.Image:
    """Draw one row's pictures with their captions; a caption may run on below pictures that have none."""
    height = size[1] + style.line + style.gap
    strip = Image.new("RGB", (width, height), PAPER)
    draw = Draw(strip)
    captioned = [column for column, title in enumerate(titles) if line[title].caption] + [len(titles)]
    for column, title in enumerate(titles):
        pixels, blend, caption = line[title]
        if pixels is None:
            continue
        left, picture = 1 + column * step, Image.fromarray(pixels)
        blended = blend and size[0] < picture.width
        picture = picture.resize(size, Image.Resampling.BOX if blended else Image.Resampling.NEAREST)
        draw.rectangle((left - 1, 0, left + size[0], size[1] + 1), outline=RULE)
        strip.paste(picture, (left, 1))
        room = next((stop - column for stop in captioned if stop > column), 1) * step - style.gap
        caption = shorten(caption, style.caption, room)
        draw.text((left, size[1] + 2 + style.line // 2), caption, FAINT, style.caption, anchor="lm")
    return strip


def _class_entries(rows: Sequence[PanelRow], label_space: LabelSpace, palette: Tensor | None) -> list[Entry]:
    """List the classes that occur in labels or predictions, then `ignored`; `palette` (K, 3) float in [0, 1]."""
    maps = [to_array(labels) for row in rows for labels in (row.labels, row.predicted_labels)]
    seen = np.unique(np.concatenate([labels.ravel() for labels in maps]))
    painted = None if palette is None else np.rint(255 * to_array(palette)).astype(int)
    entries = []
    for k in (int(k) for k in seen if k != IGNORE):
        maskige = () if painted is None else (_colour(painted[k]),)
        entries.append(Entry((label_space.colours[k], *maskige), label_space.names[k]))
    if IGNORE in seen:
        entries.append(Entry((ignore_colour(label_space), *_ignored_in_maskige(rows)), "ignored"))
    return entries


def _ignored_in_maskige(rows: Sequence[PanelRow]) -> tuple[Colour, ...]:
    """Read the colour of ignored pixels off the first maskige that has any: the palette does not list it."""
    for row in rows:
        ignored = to_array(row.labels) == IGNORE
        if row.maskige is not None and ignored.any():
            return (_colour(to_pixels(row.maskige)[ignored][0]),)
    return ()


def _colour(channels: np.ndarray) -> Colour:
    """Turn one pixel, (3,) integers 0 .. 255, into a colour."""
    red, green, blue = (int(channel) for channel in channels)
    return red, green, blue
