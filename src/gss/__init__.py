"""Generative semantic segmentation: label maps painted as pictures, tokenized, generated from images."""

from __future__ import annotations

__version__ = "0.1.0"
