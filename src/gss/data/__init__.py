"""Data sets: pairs of an image and its labels, read, checked, augmented and served in batches.

What belongs here: one file per data set, and all that happens to a pair on its way from its files to a batch.
"""

from __future__ import annotations

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # the import of albumentations otherwise waits for the network
