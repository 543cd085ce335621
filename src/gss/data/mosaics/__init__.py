"""Mosaics: label maps of ADE20K's 150 classes with its class frequencies, drawn from a seed, and pictures of them."""

from __future__ import annotations

from gss.data.mosaics.mosaic import draw_mosaic
from gss.data.mosaics.plan import plan_split

__all__ = ["draw_mosaic", "plan_split"]
