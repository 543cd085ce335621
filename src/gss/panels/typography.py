"""One typeface and one set of distances, so that all parts of a panel look like one hand's work."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Literal

from PIL.ImageFont import FreeTypeFont, Layout, truetype

from gss.overlay import Colour

PAPER: Colour = (255, 255, 255)
INK: Colour = (31, 35, 40)
FAINT: Colour = (101, 109, 118)
RULE: Colour = (208, 215, 222)


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
