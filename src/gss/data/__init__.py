"""Data sets: pairs of a photograph and its labels, read, checked, augmented and served in batches."""

from __future__ import annotations
