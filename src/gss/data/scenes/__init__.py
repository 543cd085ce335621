"""Drawn street scenes: images with exact labels from a seed, for demo, tests and the README."""

from __future__ import annotations

from gss.data.scenes.scene import draw_scene

__all__ = ["draw_scene"]
