"""The colour legend below a panel, and the typeface and distances that all pictures share.

The legend shows the classes that occur, the error map's colours and the uncertainty bar.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from PIL.ImageDraw import Draw
from PIL.ImageFont import FreeTypeFont, Layout, truetype

from gss.display.colours import Colour
from gss.display.readings import IGNORED, PALE, WRONG, heat

PAPER: Colour = (255, 255, 255)
INK: Colour = (31, 35, 40)
FAINT: Colour = (101, 109, 118)
RULE: Colour = (208, 215, 222)
BOTH = "class: labels, maskige"


@cache
def font(size: int) -> FreeTypeFont:
    """Load DejaVu Sans, which matplotlib ships: the same letters on each machine. `size` in pixels."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return truetype(str(path), size, layout_engine=Layout.BASIC)


def text_width(text: str, face: FreeTypeFont) -> int:
    """Measure one line of text in pixels."""
    return round(face.getlength(text))


def shorten(text: str, face: FreeTypeFont, width: int, keep: Literal["start", "end"] = "end") -> str:
    """Cut a text to `width` pixels: names of files tell most by the end, names of classes by the start."""
    kept = text
    while text_width(kept, face) > width and len(kept) > 1:
        text = text[:-1] if keep == "start" else text[1:]
        kept = text + "…" if keep == "start" else "…" + text
    return kept


@dataclass(frozen=True)
class Style:
    """Sizes in pixels, all derived from the width of one picture so that a small panel stays readable."""

    cell_width: int

    @cached_property
    def title(self) -> FreeTypeFont:
        """The typeface of column titles and class names."""
        return font(_between(self.cell_width // 15, 11, 17))

    @cached_property
    def caption(self) -> FreeTypeFont:
        """The typeface of what stands below a picture."""
        return font(_between(self.cell_width // 18, 10, 14))

    @property
    def margin(self) -> int:
        """The blank border round the panel."""
        return _between(self.cell_width // 11, 14, 24)

    @property
    def gap(self) -> int:
        """The distance between neighbours."""
        return _between(self.cell_width // 21, 6, 12)

    @property
    def line(self) -> int:
        """The distance from one line of text to the next."""
        return round(1.7 * self.title.size)


def _between(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


@dataclass(frozen=True)
class Entry:
    """A name and the colours that stand for it, in the order of the columns they occur in."""

    swatches: tuple[Colour, ...]
    text: str


ERRORS = (Entry((WRONG,), "wrong"), Entry((IGNORED,), "ignored"), Entry((PALE,), "right (pale image)"))


def draw_legend(classes: Sequence[Entry], width: int, style: Style, with_doubt: bool = True) -> Image.Image:
    """Draw the legend, wrapped to `width` pixels; its height follows from the number of classes.

    Args:
        classes: the classes that occur, in the order of their train ids, `ignored` last where it occurs.
        width: pixels to fill from left to right.
        style: sizes.
        with_doubt: whether the panel shows uncertainty.
    """
    blocks = [
        draw_classes(classes, width, style),
        _block("error map", [_draw_entry(entry, style) for entry in ERRORS], width, style),
    ]
    if with_doubt:
        blocks.append(_block("uncertainty", [_draw_bar(style)], width, style))
    return stack(blocks, width, apart=style.gap // 2)


def draw_classes(classes: Sequence[Entry], width: int, style: Style) -> Image.Image:
    """Draw the part of the legend that names classes, wrapped to `width` pixels."""
    heading = BOTH if any(len(entry.swatches) > 1 for entry in classes) else "class"
    drawn = [_draw_entry(entry, style) for entry in classes]
    return _block(heading, drawn, width, style, column=max(picture.width for picture in drawn))


def stack(strips: Sequence[Image.Image], width: int, apart: int = 0) -> Image.Image:
    """Put pictures below each other on paper `width` pixels wide, `apart` pixels between them."""
    height = sum(strip.height for strip in strips) + apart * (len(strips) - 1)
    paper = Image.new("RGB", (width, height), PAPER)
    top = 0
    for strip in strips:
        paper.paste(strip, (0, top))
        top += strip.height + apart
    return paper


def _block(heading: str, entries: Sequence[Image.Image], width: int, style: Style, column: int = 0) -> Image.Image:
    """Let the entries, each at least a column wide, flow beside their heading; narrow panels put it above."""
    beside = text_width(BOTH, style.caption) + 2 * style.gap
    indent, first_line = (beside, 0) if 3 * beside <= width else (0, 1)
    widths = [max(picture.width, column) for picture in entries]
    places = list(_flow(widths, width - indent, 2 * style.gap))
    lines = first_line + places[-1][1] + 1
    block = Image.new("RGB", (width, lines * style.line), PAPER)
    Draw(block).text((0, style.line // 2), heading, FAINT, style.caption, anchor="lm")
    for picture, (left, line) in zip(entries, places, strict=True):
        block.paste(picture, (indent + left, (first_line + line) * style.line))
    return block


def _flow(widths: Sequence[int], room: int, gap: int) -> Iterator[tuple[int, int]]:
    """Place boxes from left to right and wrap them like words; gives (left, line) of each."""
    left, line = 0, 0
    for width in widths:
        if left and left + width > room:
            left, line = 0, line + 1
        yield left, line
        left += width + gap


def _draw_entry(entry: Entry, style: Style) -> Image.Image:
    """Draw the swatches side by side, then the name; one long name must not stretch the whole grid."""
    size, left = int(style.title.size), 0
    name = shorten(entry.text, style.title, 20 * size, keep="start")
    text_left = len(entry.swatches) * (size + 2) + style.gap // 2
    picture = Image.new("RGB", (text_left + text_width(name, style.title), style.line), PAPER)
    draw = Draw(picture)
    top = (style.line - size) // 2
    for colour in entry.swatches:
        draw.rectangle((left, top, left + size - 1, top + size - 1), fill=colour, outline=RULE)
        left += size + 2
    draw.text((text_left, style.line // 2), name, INK, style.title, anchor="lm")
    return picture


def _draw_bar(style: Style) -> Image.Image:
    """Draw the uncertainty's colours from 0 to 1."""
    size, before, after = int(style.title.size), "0", "1   entropy / log K"
    ramp = heat(np.tile(np.linspace(0.0, 1.0, 8 * size), (size, 1)))
    bar_left = text_width(before, style.title) + style.gap // 2
    text_left = bar_left + ramp.shape[1] + style.gap // 2
    picture = Image.new("RGB", (text_left + text_width(after, style.title), style.line), PAPER)
    draw = Draw(picture)
    draw.text((0, style.line // 2), before, INK, style.title, anchor="lm")
    picture.paste(Image.fromarray(ramp), (bar_left, (style.line - size) // 2))
    draw.text((text_left, style.line // 2), after, INK, style.title, anchor="lm")
    return picture
