"""The codebook as a picture: what each token paints, the most used first, with its share of the cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageDraw import Draw

from gss.overlay import Pixels
from gss.panels.typography import FAINT, INK, PAPER, RULE, Style, font

TILE = 32  # pixels that a token's square is enlarged to, by a whole factor, as far as it is smaller
MOST_COLUMNS = 32


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
