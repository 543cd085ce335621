"""SyntheticPairs: street scenes drawn to disk once, in the Cityscapes layout, then read like Cityscapes."""

from __future__ import annotations

from pathlib import Path

from gss.data.cityscapes import CityscapesPairs
from gss.data.drawn import DrawnPairs, encoded
from gss.data.pairs import Pair
from gss.data.scenes import draw_scene

_CITY = "drawnville"


class SyntheticPairs(DrawnPairs):
    """List one split of drawn street scenes; `root` gets the folders `leftImg8bit` and `gtFine`."""

    splits = ("train", "val", "test")
    what = "street scenes"
    drawing = 1

    def listed(self) -> list[Pair]:
        """List the split as Cityscapes is listed."""
        return CityscapesPairs(self.root, self.split, labels="labelIds")()  # those of the test split are drawn too

    def files(self, number: int) -> tuple[Path, Path]:
        """Name the photograph and the label file of one scene."""
        scene = f"{_CITY}_{number:06d}_000000"
        return (
            self.root / "leftImg8bit" / self.split / _CITY / f"{scene}_leftImg8bit.png",
            self.root / "gtFine" / self.split / _CITY / f"{scene}_gtFine_labelIds.png",
        )

    def draw(self, number: int) -> tuple[bytes, bytes]:
        """Draw one street: its photograph and its label ids as PNG."""
        image, ids = draw_scene(self.drawing_seed, number, self.size)
        return encoded(image, "PNG"), encoded(ids, "PNG")
