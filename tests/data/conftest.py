"""A folder of small noisy images with labels, for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gss.data.folder import FolderPairs
from gss.labels import LabelSpace

WriteSplit = Callable[..., FolderPairs]


@pytest.fixture
def label_space() -> LabelSpace:
    return LabelSpace.from_names(["road", "car", "tree"])


@pytest.fixture
def write_split(tmp_path: Path) -> WriteSplit:
    """Give a function that writes `count` pairs of one split and returns their source."""

    def write(split: str = "train", count: int = 4, size: tuple[int, int] = (24, 32)) -> FolderPairs:
        rng = np.random.default_rng([7, len(split), count])
        for folder in ("images", "labels"):
            (tmp_path / folder / split).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            labels = rng.choice(np.array([0, 1, 2, 255], np.uint8), size)
            Image.fromarray(image).save(tmp_path / "images" / split / f"{index}.png")
            Image.fromarray(labels).save(tmp_path / "labels" / split / f"{index}.png")
        return FolderPairs(tmp_path, f"images/{split}", f"labels/{split}", origin="ask the owner")

    return write
