"""The panel: all pictures of some photographs side by side, from labels to errors, and a colour legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from PIL.ImageDraw import Draw

from gss.labels import IGNORE, LabelSpace
from gss.overlay import Colour, ignore_colour, to_array, to_pixels
from gss.panels.legend import Entry, draw_legend, stack
from gss.panels.rows import Cell, PanelRow, cells
from gss.panels.typography import FAINT, INK, PAPER, RULE, Style, shorten, text_width

if TYPE_CHECKING:
    from torch import Tensor


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
        raise ValueError(f"a panel needs a photograph, got {len(rows)}; raise callbacks.panels.num_rows")
    style = Style(cell_width)
    lines = [cells(row, label_space) for row in rows]
    titles = [title for title in lines[0] if any(line[title].pixels is not None for line in lines)]
    sizes = [_shown_size(line["photograph"], cell_width) for line in lines]
    widest_title = max(text_width(title, style.title) for title in titles)
    step = max(widest_title + style.gap, *(width for width, _ in sizes)) + style.gap
    inner = len(titles) * step - style.gap
    legend = draw_legend(_class_entries(rows, label_space, palette), inner, style, "uncertainty" in titles)
    strips = [_titles(titles, step, inner + 2, style)]  # pictures have a frame of one pixel, hence 2 more
    strips += [_strip(line, titles, size, step, inner + 2, style) for line, size in zip(lines, sizes, strict=True)]
    return _on_paper(stack(strips, inner + 2), legend, style)


def _shown_size(cell: Cell, cell_width: int) -> tuple[int, int]:
    """Choose the (width, height) on the panel: whole factors up, a common width (or height) down."""
    assert cell.pixels is not None
    height, width = cell.pixels.shape[:2]
    scale = min(cell_width / width, 1.25 * cell_width / height)
    if scale >= 0.8:  # nearly fits: pixel for pixel looks better than blurred by a few per cent
        scale = max(1, round(scale))
    return max(1, round(scale * width)), max(1, round(scale * height))


def _shown(cell: Cell, size: tuple[int, int]) -> Image.Image:
    assert cell.pixels is not None
    picture = Image.fromarray(cell.pixels)
    shrunk = size[0] < picture.width
    return picture.resize(size, Image.Resampling.BOX if shrunk and cell.blend else Image.Resampling.NEAREST)


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
        if line[title].pixels is None:
            continue
        left = 1 + column * step
        draw.rectangle((left - 1, 0, left + size[0], size[1] + 1), outline=RULE)
        strip.paste(_shown(line[title], size), (left, 1))
        room = next((stop - column for stop in captioned if stop > column), 1) * step - style.gap
        caption = shorten(line[title].caption, style.caption, room)
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


def _on_paper(pictures: Image.Image, legend: Image.Image, style: Style) -> Image.Image:
    """Put the legend a little below the pictures, with a margin all round."""
    size = (legend.width + 2 * style.margin, pictures.height + legend.height + style.gap + 2 * style.margin)
    panel = Image.new("RGB", size, PAPER)
    panel.paste(pictures, (style.margin - 1, style.margin))  # a frame of one pixel hangs out on each side
    panel.paste(legend, (style.margin, style.margin + pictures.height + style.gap))
    return panel
