"""Panels: all pictures of some photographs side by side, so that one sees what was learned."""

from __future__ import annotations

from gss.overlay import colour_labels, overlay
from gss.panels.panel import draw_panel
from gss.panels.readings import error_map, uncertainty
from gss.panels.rows import PanelRow
from gss.panels.sheet import Section, draw_sheet

__all__ = [
    "PanelRow",
    "Section",
    "colour_labels",
    "draw_panel",
    "draw_sheet",
    "error_map",
    "overlay",
    "uncertainty",
]
