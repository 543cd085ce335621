"""SyntheticPairs: street scenes drawn to disk once, in the Cityscapes layout, then read like Cityscapes."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gss.atomic_files import write_whole
from gss.data.cityscapes import CityscapesPairs
from gss.data.pairs import Pair
from gss.data.scenes import draw_scene
from gss.data.verify import num_threads
from gss.display.progress import track

SPLITS = ("train", "val", "test")
_CITY = "drawnville"
_DRAWING = 1  # raised when scenes are drawn differently


class SyntheticPairs:
    """List one split of drawn street scenes, drawing it first if it is not there with the same settings.

    `root` gets the folders `leftImg8bit` and `gtFine`. Each split has its own seed, so no scene is in two of them.
    Files are written one by one under a temporary name and renamed; `SPLIT.json`, the note of the settings, comes
    last. So an interrupted drawing is repeated, and processes that draw the same scenes at once do not collide.

    Args:
        root: folder for the scenes.
        split: train, val or test.
        num_scenes: number of scenes in the split.
        size: (H, W) of the images, pixels.
        seed: of the scenes; not that of the training, so that runs with several seeds share their data.

    Raises:
        ValueError: the split is unknown, or a number is out of range.
    """

    def __init__(self, root: str | Path, split: str, num_scenes: int, size: Sequence[int], seed: int = 0) -> None:
        """Check the settings; nothing is drawn before the first call."""
        if split not in SPLITS:
            raise ValueError(f"drawn scenes have the splits {', '.join(SPLITS)}, got '{split}'; mend data.splits")
        if num_scenes < 1:
            raise ValueError(f"num_scenes must be at least 1, got {num_scenes}; mend data.splits.{split}.num_scenes")
        if len(size) != 2 or min(size) < 16:
            raise ValueError(f"drawn scenes need two sides of at least 16 pixels, got {size}; mend data.size")
        self.root = Path(root)
        self.split = split
        self.num_scenes = num_scenes
        self.size = (size[0], size[1])
        self.seed = seed

    def __call__(self) -> list[Pair]:
        """Draw the scenes unless these very scenes were drawn to their end and none was lost since, and list them."""
        note = self.root / f"{self.split}.json"
        settings = {"drawing": _DRAWING, "num_scenes": self.num_scenes, "size": list(self.size), "seed": self.seed}
        files = [path for number in range(self.num_scenes) for path in self.files(number)]
        try:
            is_drawn = json.loads(note.read_text()) == settings and all(path.is_file() for path in files)
        except (OSError, ValueError):
            is_drawn = False
        if not is_drawn:
            note.unlink(missing_ok=True)
            self._draw_all(files)
            write_whole(note, json.dumps(settings, indent=1))
        return CityscapesPairs(self.root, self.split, labels="labelIds")()  # those of the test split are drawn too

    def files(self, number: int) -> tuple[Path, Path]:
        """Name the image and the label file of one scene."""
        scene = f"{_CITY}_{number:06d}_000000"
        return (
            self.root / "leftImg8bit" / self.split / _CITY / f"{scene}_leftImg8bit.png",
            self.root / "gtFine" / self.split / _CITY / f"{scene}_gtFine_labelIds.png",
        )

    def _draw_all(self, files: Sequence[Path]) -> None:
        """Draw all scenes, then remove what an earlier drawing with other settings left."""
        for folder in {path.parent for path in files}:
            folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(max_workers=num_threads()) as pool:
            drawn = pool.map(self._draw_one, range(self.num_scenes))
            for _ in track(drawn, f"drawing street scenes ({self.split})", self.num_scenes, "scenes"):
                pass
        for folder in {path.parent for path in files}:
            for stale in set(folder.glob("[!.]*.png")) - set(files):
                stale.unlink(missing_ok=True)

    def _draw_one(self, number: int) -> None:
        """Draw one scene and write its two files, the image last: listings start from images."""
        image, ids = draw_scene(SPLITS.index(self.split) + len(SPLITS) * self.seed, number, self.size)
        image_file, label_file = self.files(number)
        write_whole(label_file, _as_png(ids))
        write_whole(image_file, _as_png(image))


def _as_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode (H, W, 3) or (H, W) uint8, lightly compressed, because drawing is waited for."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()
