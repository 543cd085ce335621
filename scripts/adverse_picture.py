"""Draws every kind of adverse condition at its three strengths on one picture: docs/pictures/adverse.png.

    python scripts/adverse_picture.py [--image FILE] [--output docs/pictures/adverse.png]

Without an image it is a drawn street scene.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gss.data.adverse import CLEAN, KINDS, STRENGTHS, Adverse
from gss.data.pairs import Pair
from gss.data.reading import read_image
from gss.data.scenes import draw_scene

SCENE = (360, 480)  # the size of a CamVid frame, at which it is degraded
WIDTH = 136  # of a picture in the table, pixels
GAP, TITLE = 4, 18
COLOURS = 128


def main() -> None:
    """Draws the table and saves it with few colours, as noise makes large files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, help="any PNG or JPEG, of any size")
    parser.add_argument("--output", type=Path, default=Path("docs/pictures/adverse.png"))
    arguments = parser.parse_args()
    image = read_image(arguments.image) if arguments.image else draw_scene(0, 3, SCENE)[0]
    table = draw_table(image)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    table.quantize(COLOURS, dither=Image.Dither.NONE).save(arguments.output, optimize=True)
    print(f"picture: {arguments.output}, {arguments.output.stat().st_size / 1000:.0f} kB")


def draw_table(image: NDArray[np.uint8]) -> Image.Image:
    """A column per kind and a row per strength, the picture as it is at the upper left.

    Args:
        image: (H, W, 3) uint8 RGB.
    """
    width, height = WIDTH, round(WIDTH * image.shape[0] / image.shape[1])
    columns, rows = 1 + len(KINDS), len(STRENGTHS)
    table = Image.new("RGB", (columns * (width + GAP) - GAP, TITLE + rows * (height + GAP) - GAP), "white")
    draw, font = ImageDraw.Draw(table), ImageFont.load_default(12)
    for column, kind in enumerate((CLEAN, *KINDS)):
        left = column * (width + GAP)
        draw.text((left + width / 2, TITLE / 2), kind.replace("_", " "), "black", font, anchor="mm")
        for row, strength in enumerate(STRENGTHS[:1] if kind == CLEAN else STRENGTHS):
            condition = CLEAN if kind == CLEAN else f"{kind}-{strength}"
            seen = Adverse().degrade(image, Pair(Path(), None, "picture", condition))
            small = cv2.resize(seen, (width, height), interpolation=cv2.INTER_AREA)
            table.paste(Image.fromarray(small), (left, TITLE + row * (height + GAP)))
    return table


if __name__ == "__main__":
    main()
