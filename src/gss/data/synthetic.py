"""SyntheticPairs: street scenes drawn to disk once, in the Cityscapes layout, then read like Cityscapes."""

from __future__ import annotations

import io
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gss.atomic_files import write_whole
from gss.data.cityscapes import CityscapesPairs
from gss.data.pairs import Pair
from gss.data.progress import shown
from gss.data.scenes import draw_scene
from gss.data.verify import num_threads

# FOLDED DrawnPairs: scenes drawn to disk once, in the layout of a real data set, then read by the reader of that data set.


class DrawnPairs(ABC):
    """List one split of drawn scenes, drawing it first if it is not there with the same settings.

    Files are written one by one under a temporary name and renamed; the note of the settings comes last. So
    an interrupted drawing is repeated, and processes that draw the same scenes at once do not collide.

    A class says which splits there are (each draws from its own seed: no scene occurs in two of them), what is
    drawn, in words and as a version that is raised when scenes are drawn differently, and the three methods.

    Args:
        root: folder for the scenes.
        split: one of `splits`.
        num_scenes: number of scenes in the split.
        size: (H, W) of the images, pixels.
        seed: of the scenes; not that of the training, so that runs with several seeds share their data.

    Raises:
        ValueError: the split is unknown, or a number is out of range.
    """

    splits: ClassVar[tuple[str, ...]]
    what: ClassVar[str]
    drawing: ClassVar[int]

    def __init__(self, root: str | Path, split: str, num_scenes: int, size: Sequence[int], seed: int = 0) -> None:
        """Check the settings; nothing is drawn before the first call."""
        if split not in self.splits:
            raise ValueError(f"drawn scenes have the splits {', '.join(self.splits)}, got '{split}'; mend data.splits")
        if num_scenes < 1:
            raise ValueError(f"num_scenes must be at least 1, got {num_scenes}; mend data.splits.{split}.num_scenes")
        if len(size) != 2 or min(size) < 16:
            raise ValueError(f"drawn scenes need two sides of at least 16 pixels, got {size}; mend data.size")
        self.root = Path(root)
        self.split = split
        self.num_scenes = num_scenes
        self.size = (size[0], size[1])
        self.seed = seed

    @abstractmethod
    def listed(self) -> list[Pair]:
        """List the split as the real data set's reader does."""

    @abstractmethod
    def files(self, number: int) -> tuple[Path, Path]:
        """Name the image and the label file of one scene."""

    @abstractmethod
    def draw(self, number: int) -> tuple[bytes, bytes]:
        """Draw one scene: its image and its label file, encoded."""

    @property
    def drawing_seed(self) -> int:
        """The seed of this split's scenes."""
        return self.splits.index(self.split) + len(self.splits) * self.seed

    def __call__(self) -> list[Pair]:
        """Draw the scenes unless they are there, and list them."""
        note = self.root / f"{self.split}.json"
        if not self._is_drawn(note):
            note.unlink(missing_ok=True)
            self._draw_all()
            write_whole(note, json.dumps(self._settings(), indent=1))
        return self.listed()

    def _settings(self) -> dict[str, Any]:
        """Give everything that decides what the scenes look like."""
        return {
            "drawing": self.drawing,
            "num_scenes": self.num_scenes,
            "size": list(self.size),
            "seed": self.seed,
        }

    def _is_drawn(self, note: Path) -> bool:
        """Tell whether these very scenes were drawn to their end, and none was lost since."""
        try:
            settings = json.loads(note.read_text())
        except (OSError, ValueError):
            return False
        files = (path for number in range(self.num_scenes) for path in self.files(number))
        return bool(settings == self._settings()) and all(path.is_file() for path in files)

    def _draw_all(self) -> None:
        """Draw all scenes, then remove what an earlier drawing with other settings left."""
        kept = {path for number in range(self.num_scenes) for path in self.files(number)}
        with ThreadPoolExecutor(max_workers=num_threads()) as pool:
            drawn = pool.map(self._draw_one, range(self.num_scenes))
            for _ in shown(drawn, f"drawing {self.what} ({self.split})", self.num_scenes):
                pass
        for folder, ending in {(path.parent, path.suffix) for path in kept}:
            for stale in set(folder.glob(f"[!.]*{ending}")) - kept:
                stale.unlink(missing_ok=True)

    def _draw_one(self, number: int) -> None:
        """Draw one scene and write its two files, the image last: listings start from images."""
        contents = self.draw(number)
        for path, content in reversed(list(zip(self.files(number), contents, strict=True))):
            write_whole(path, content)


def encoded(pixels: NDArray[np.uint8], form: str) -> bytes:
    """Encode (H, W, 3) or (H, W) uint8 as PNG (light compression, because drawing is waited for) or JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=form, **({"compress_level": 3} if form == "PNG" else {"quality": 90}))
    return buffer.getvalue()


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
        """Name the image and the label file of one scene."""
        scene = f"{_CITY}_{number:06d}_000000"
        return (
            self.root / "leftImg8bit" / self.split / _CITY / f"{scene}_leftImg8bit.png",
            self.root / "gtFine" / self.split / _CITY / f"{scene}_gtFine_labelIds.png",
        )

    def draw(self, number: int) -> tuple[bytes, bytes]:
        """Draw one street: its image and its label ids as PNG."""
        image, ids = draw_scene(self.drawing_seed, number, self.size)
        return encoded(image, "PNG"), encoded(ids, "PNG")
