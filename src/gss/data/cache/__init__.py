"""A split decoded once: images and train ids as plain bytes in shards, which training maps into memory."""

from __future__ import annotations
