"""How often each class occurs, as a picture: a bar per class and split, the most frequent class first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from PIL import Image
from PIL.ImageDraw import Draw, ImageDraw

from gss.display.colours import Colour
from gss.display.legend import FAINT, INK, PAPER, RULE, Style, shorten, text_width
from gss.display.stage_one import share_in_words

ROWS = 50  # classes below each other; longer lists go on beside
LOWEST = 1e-5  # the share at the left end of the axis
TICKS = {1e-4: ".01%", 1e-3: ".1%", 1e-2: "1%", 1e-1: "10%", 1.0: "100%"}
NAME, NUMBER = 150, 46  # widths in pixels, of the names and of the numbers
BAR = 8  # height in pixels


def draw_frequencies(
    shares: Mapping[str, Mapping[str, float]], colours: Mapping[str, Colour], heading: str
) -> Image.Image:
    """Draw the shares of classes on a logarithmic axis from 0.001 to 100 percent, splits beside each other.

    Args:
        shares: split name -> class name -> share in [0, 1]; all splits name the same classes.
        colours: class name -> red, green and blue from 0 to 255.
        heading: one line above.
    """
    style = Style(200)
    mean = {name: sum(split[name] for split in shares.values()) / len(shares) for name in colours}
    order = sorted(colours, key=lambda name: -mean[name])
    bar = 200 if len(order) <= ROWS else 90
    width = NAME + style.gap + len(shares) * (bar + NUMBER + style.gap)
    blocks = [
        _block(order[first : first + ROWS], shares, colours, (width, bar), style)
        for first in range(0, len(order), ROWS)
    ]
    inner = max(len(blocks) * width, text_width(heading, style.title))
    size = (inner + 2 * style.margin, blocks[0].height + 2 * style.margin + style.line)
    picture = Image.new("RGB", size, PAPER)
    Draw(picture).text((style.margin, style.margin), heading, INK, style.title, anchor="lt")
    for number, block in enumerate(blocks):
        picture.paste(block, (style.margin + number * width, style.margin + style.line))
    return picture


def _block(
    names: Sequence[str],
    shares: Mapping[str, Mapping[str, float]],
    colours: Mapping[str, Colour],
    widths: tuple[int, int],
    style: Style,
) -> Image.Image:
    """Draw some classes below each other, under the names of the splits and the axis of each."""
    width, bar = widths
    top, step = 2 * style.line, style.line
    picture = Image.new("RGB", (width, top + len(names) * step), PAPER)
    draw = Draw(picture)
    for column, (split, of_class) in enumerate(shares.items()):
        left = NAME + style.gap + column * (bar + NUMBER + style.gap)
        title = shorten(split, style.title, bar + NUMBER, keep="start")
        draw.text((left, style.line // 2), title, INK, style.title, anchor="lm")
        _draw_axis(draw, (left, top - 4, left + bar, picture.height), style)
        for row, name in enumerate(names):
            middle = top + row * step + step // 2
            end = left + round(bar * _place(of_class[name]))
            if of_class[name]:
                draw.rectangle((left, middle - BAR // 2, end, middle + BAR // 2), colours[name], outline=FAINT)
            words = share_in_words(of_class[name])
            draw.text((left + bar + NUMBER - 4, middle), words, INK, style.caption, anchor="rm")
    for row, name in enumerate(names):
        text = shorten(name, style.title, NAME, keep="start")
        draw.text((NAME, top + row * step + step // 2), text, INK, style.title, anchor="rm")
    return picture


def _draw_axis(draw: ImageDraw, box: tuple[int, int, int, int], style: Style) -> None:
    """Draw a line for each power of ten, named as far as there is room."""
    left, top, right, bottom = box
    for share, name in TICKS.items():
        x = left + round((right - left) * _place(share))
        draw.line((x, top, x, bottom), fill=RULE)
        if right - left >= 150 or share in (1e-4, 1e-2, 1.0):
            draw.text((x, top - 2), name, FAINT, style.caption, anchor="ms")


def _place(share: float) -> float:
    """Place a share on the axis, from 0 at the left to 1 at the right; smaller ones stay visible."""
    return max(0.02, 1 - math.log10(share) / math.log10(LOWEST)) if share else 0.0
