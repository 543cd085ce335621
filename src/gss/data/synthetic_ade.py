"""SyntheticADEPairs: mosaics of 150 classes drawn to disk once, in the ADE20K layout, then read like ADE20K."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from gss.data.ade20k import FOLDER, SPLITS, ADE20KPairs
from gss.data.mosaics import draw_mosaic, plan_split
from gss.data.mosaics.plan import Shares
from gss.data.pairs import Pair
from gss.data.synthetic import DrawnPairs, encoded


class SyntheticADEPairs(DrawnPairs):
    """List one split of drawn mosaics with ADE20K's class frequencies; `root` gets the folder `ADEChallengeData2016`.

    The frequencies hold for the split as a whole, so another number of scenes is another drawing of all of them.
    """

    splits = tuple(SPLITS)
    what = "mosaics"
    drawing = 1

    def listed(self) -> list[Pair]:
        """List the split as ADE20K is listed."""
        return ADE20KPairs(self.root, self.split)()

    def files(self, number: int) -> tuple[Path, Path]:
        """Name the image and the label file of one scene; the archive counts from 1."""
        base, scene = self.root / FOLDER, f"ADE_{self.split}_{number + 1:08d}"
        folder = SPLITS[self.split]
        return base / "images" / folder / f"{scene}.jpg", base / "annotations" / folder / f"{scene}.png"

    def draw(self, number: int) -> tuple[bytes, bytes]:
        """Draw one mosaic: its picture as JPEG, its file ids as PNG."""
        image, ids = draw_mosaic(self.drawing_seed, number, self.size, self._plan[number])
        return encoded(image, "JPEG"), encoded(ids, "PNG")

    @cached_property
    def _plan(self) -> Shares:
        """The share of each scene that each class takes, (num_scenes, 151) float64."""
        return plan_split(self.num_scenes, self.drawing_seed)
