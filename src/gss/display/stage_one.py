"""Stage one as pictures: the palette, and the codebook.

The palette has a swatch per class and the two colours that are least apart; the codebook what each token paints, the
most used first, with its share of the cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageDraw import Draw

from gss.display.colours import Colour, Pixels
from gss.display.legend import FAINT, INK, PAPER, RULE, Style, font, shorten, text_width

FEWEST_COLUMNS = 6  # of the palette
SWATCH = (148, 84)  # width and height, pixels
TILE = 32  # pixels that a token's square is enlarged to, by a whole factor, as far as it is smaller
MOST_COLUMNS = 32  # of the codebook


def draw_palette(names: Sequence[str], colours: Sequence[Colour], closest: tuple[int, int, float]) -> Image.Image:
    """Draw all colours in the order given, then the closest pair side by side.

    Args:
        names: of the colours; the last is usually that of ignored pixels.
        colours: red, green and blue from 0 to 255.
        closest: positions of the two colours that are least apart, and their distance on the 0-255 scale.
    """
    style = Style(256)
    columns = min(max(FEWEST_COLUMNS, math.isqrt(len(names))), len(names))
    step = (SWATCH[0] + style.gap, SWATCH[1] + 2 * style.line + style.gap)
    lines = -(-len(names) // columns)
    pair = _draw_pair(names, colours, closest, style)
    below = style.margin + lines * step[1] + style.gap
    width = max(columns * step[0] - style.gap, pair.width)
    picture = Image.new("RGB", (width + 2 * style.margin, below + pair.height + style.margin), PAPER)
    for number, (name, colour) in enumerate(zip(names, colours, strict=True)):
        line, column = divmod(number, columns)
        place = (style.margin + column * step[0], style.margin + line * step[1])
        picture.paste(_draw_swatch(name, colour, style), place)
    picture.paste(pair, (style.margin, below))
    return picture


def _draw_swatch(name: str, colour: Colour, style: Style) -> Image.Image:
    """Draw a colour with its name and its three numbers below."""
    width, height = SWATCH
    picture = Image.new("RGB", (width, height + 2 * style.line), PAPER)
    draw = Draw(picture)
    draw.rectangle((0, 0, width - 1, height - 1), fill=colour, outline=RULE)
    first, second = height + style.line // 2 + 2, height + 3 * style.line // 2 - 4
    draw.text((0, first), shorten(name, style.title, width, keep="start"), INK, style.title, anchor="lm")
    draw.text((0, second), " ".join(map(str, colour)), FAINT, style.caption, anchor="lm")
    return picture


def _draw_pair(
    names: Sequence[str], colours: Sequence[Colour], closest: tuple[int, int, float], style: Style
) -> Image.Image:
    """Let the two colours touch, which shows best how alike they are, and write their distance beside."""
    (first, second, distance), (width, height) = closest, SWATCH
    texts = [f"closest pair: {names[first]} and {names[second]}", f"{distance:.1f} apart on the 0-255 scale"]
    beside = 2 * width + style.gap
    size = (beside + max(text_width(text, style.title) for text in texts), height)
    picture = Image.new("RGB", size, PAPER)
    draw = Draw(picture)
    for number, row in enumerate((first, second)):
        draw.rectangle((number * width, 0, (number + 1) * width - 1, height - 1), fill=colours[row])
    draw.rectangle((0, 0, 2 * width - 1, height - 1), outline=RULE)
    for number, (text, ink) in enumerate(zip(texts, (INK, FAINT), strict=True)):
        draw.text((beside, height // 2 + (2 * number - 1) * style.line // 2), text, ink, style.title, anchor="lm")
    return picture


def draw_codebook(tiles: Pixels, shares: NDArray[np.floating[Any]], heading: str) -> Image.Image:
    """Draw tokens on a grid, from left to right and from top to bottom.

    Args:
        tiles: (N, s, s, 3) uint8, what each token decodes to, in the order to draw.
        shares: (N,) float in [0, 1], how often each occurs; told below it.
        heading: one line above the grid.
    """
    style, small = Style(256), font(9)
    side = max(1, TILE // tiles.shape[1]) * tiles.shape[1]
    columns = min(MOST_COLUMNS, max(8, math.isqrt(2 * len(tiles))), len(tiles))
    step = (side + 8, side + 19)
    lines = -(-len(tiles) // columns)
    width = max(columns * step[0], round(style.title.getlength(heading))) + 2 * style.margin
    picture = Image.new("RGB", (width, style.line + style.gap + lines * step[1] + 2 * style.margin), PAPER)
    draw = Draw(picture)
    draw.text((style.margin, style.margin + style.line // 2), heading, INK, style.title, anchor="lm")
    for number, (tile, share) in enumerate(zip(tiles, shares, strict=True)):
        line, column = divmod(number, columns)
        left, top = style.margin + column * step[0], style.margin + style.line + style.gap + line * step[1]
        draw.rectangle((left - 1, top - 1, left + side, top + side), outline=RULE)
        picture.paste(Image.fromarray(tile).resize((side, side), Image.Resampling.NEAREST), (left, top))
        draw.text((left + side // 2, top + side + 8), share_in_words(float(share)), FAINT, small, anchor="mm")
    return picture


def share_in_words(share: float) -> str:
    """Two digits of a share in [0, 1] as a percentage, in little room: `12%`, `1.3%`, `.04%`, and `-` for never."""
    percent = 100 * share
    if share == 0 or percent < 0.005:
        return "<.01%" if share else "-"
    return f"{percent:.0f}%" if percent >= 9.95 else f"{percent:.1f}%" if percent >= 0.95 else f"{percent:.2f}%"[1:]


def order_by_use(counts: Sequence[int], limit: int) -> list[int]:
    """Positions of the largest counts, the largest first and equal ones in order, at most `limit`."""
    return sorted(range(len(counts)), key=lambda token: -counts[token])[:limit]
