"""A contact sheet: many label maps in their display colours, in sections, above a legend of their classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from PIL.ImageDraw import Draw

from gss.display.colours import colour_labels, ignore_colour, to_array
from gss.display.legend import FAINT, INK, PAPER, RULE, Entry, Style, draw_classes, shorten, stack
from gss.labels import IGNORE, LabelSpace

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Section:
    """Some label maps under one heading.

    Args:
        heading: what they are.
        maps: each (H, W) integer train ids, [0, K) or 255; all sections of a sheet have maps of one size.
        captions: one for each map, or none at all.
    """

    heading: str
    maps: Sequence[Tensor]
    captions: Sequence[str] = ()


def draw_sheet(
    sections: Sequence[Section], label_space: LabelSpace, columns: int, cell_width: int = 160
) -> Image.Image:
    """Draw sections below each other, their maps from left to right, and the classes that occur.

    Args:
        sections: at least one map in all.
        label_space: K class names and display colours.
        columns: maps beside each other.
        cell_width: about the width of one map in pixels; maps are enlarged by whole factors.
    """
    style = Style(cell_width)
    maps = [to_array(labels) for section in sections for labels in section.maps]
    size = _shown_size(maps[0].shape, cell_width)
    width = columns * (size[0] + 2) + (columns - 1) * style.gap
    strips = [strip for section in sections for strip in _strips(section, label_space, columns, size, style)]
    classes = draw_classes(_entries(maps, label_space), width, style)
    inner = stack([*strips, classes], width, apart=style.gap)
    paper = Image.new("RGB", (inner.width + 2 * style.margin, inner.height + 2 * style.margin), PAPER)
    paper.paste(inner, (style.margin, style.margin))
    return paper


def _shown_size(shape: tuple[int, ...], cell_width: int) -> tuple[int, int]:
    """Choose the (width, height) of a map of shape (H, W) on the sheet."""
    scale = cell_width / shape[1]
    scale = scale if scale < 0.8 else max(1, round(scale))
    return max(1, round(scale * shape[1])), max(1, round(scale * shape[0]))


def _strips(
    section: Section, label_space: LabelSpace, columns: int, size: tuple[int, int], style: Style
) -> Iterator[Image.Image]:
    """Draw the heading, then the maps row by row."""
    width = columns * (size[0] + 2) + (columns - 1) * style.gap
    heading = Image.new("RGB", (width, style.line), PAPER)
    Draw(heading).text((0, style.line // 2), section.heading, INK, style.title, anchor="lm")
    yield heading
    for first in range(0, len(section.maps), columns):
        strip = Image.new("RGB", (width, size[1] + 2 + (style.line if section.captions else 0)), PAPER)
        draw = Draw(strip)
        for column, labels in enumerate(section.maps[first : first + columns]):
            left = column * (size[0] + 2 + style.gap)
            draw.rectangle((left, 0, left + size[0] + 1, size[1] + 1), outline=RULE)
            picture = Image.fromarray(colour_labels(labels, label_space))
            strip.paste(picture.resize(size, Image.Resampling.NEAREST), (left + 1, 1))
            if section.captions:
                caption = shorten(section.captions[first + column], style.caption, size[0])
                draw.text((left, size[1] + 2 + style.line // 2), caption, FAINT, style.caption, anchor="lm")
        yield strip


def _entries(maps: Sequence[np.ndarray], label_space: LabelSpace) -> list[Entry]:
    """List the classes that occur in maps (H, W), then `ignored` where it occurs."""
    seen = np.unique(np.concatenate([labels.ravel() for labels in maps]))
    classes = [Entry((label_space.colours[k],), label_space.names[k]) for k in map(int, seen) if k != IGNORE]
    return classes + ([Entry((ignore_colour(label_space),), "ignored")] if IGNORE in seen else [])
