"""Fixtures that several rooms share: real photographs when they are at hand, drawn ones always."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def camvid_root() -> Path:
    """Give the folder of the real CamVid photographs; skip where there are none."""
    named = os.environ.get("GSS_DATA")
    root = (Path(named) if named else REPOSITORY.parent / "shared" / "data") / "camvid"
    if not (root / "train").is_dir():
        pytest.skip(f"CamVid is not in '{root}'; put it there, or set GSS_DATA to the folder that holds camvid/")
    return root


@pytest.fixture(scope="session")
def street_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw a tiny data set in the Cityscapes layout: 6 train, 3 val and 2 test scenes of 64x128 pixels."""
    from gss.data.synthetic import SyntheticPairs

    root = tmp_path_factory.mktemp("scenes")
    for split, num_scenes in (("train", 6), ("val", 3), ("test", 2)):
        SyntheticPairs(root, split, num_scenes, (64, 128), seed=0)()
    return root
