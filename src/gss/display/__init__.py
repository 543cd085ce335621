"""What people look at: panels of pictures, contact sheets, legends, tables and progress.

What belongs here: from tensors and figures to pictures and text; nothing that is trained, measured or read from disk.
"""

from __future__ import annotations

from gss.display.colours import colour_labels, overlay
from gss.display.contact_sheet import Section, draw_sheet
from gss.display.panel import PanelRow, draw_panel
from gss.display.readings import error_map, uncertainty

__all__ = ["PanelRow", "Section", "colour_labels", "draw_panel", "draw_sheet", "error_map", "overlay", "uncertainty"]
