"""Read images and label files from disk, unchanged and fully, or say in one sentence why not.

Plain PNGs are decoded by OpenCV, a tenth to a fifth faster than by Pillow and to the same bytes; Pillow reads
everything else. Whatever is wrong with a file becomes a ValueError that names it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from gss.data.pairs import Pair
from gss.labels import LabelSpace

MAX_PIXELS = 2**26
"""The largest picture that is decoded, 8192x8192 pixels.

A header of a hundred bytes can declare gigabytes. This is below the size from which Pillow warns, so its limits never
decide.
"""

_LABEL_MODES = ("L", "P")  # 8-bit grey and palette: the two whose stored bytes are the ids themselves
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width
_ORIENTATION = 0x0112
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error)
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)  # the warning: where warnings are errors

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_START = b"\x00\x00\x00\x0dIHDR"
_RGB, _GREY = 2, 0  # colour types of PNG; the others are palette, and either with alpha
_HARMLESS = {b"IHDR", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"pHYs", b"bKGD", b"tIME"}
"""Parts of a PNG that change no pixel in either reader: no orientation, transparency or animation."""

_ORIENTING = (b"Raw profile", b"XML:")  # texts of a PNG in which Pillow looks for an orientation


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image as (H, W, 3) uint8 RGB, upright.

    The camera's EXIF orientation is applied; grey, palette, RGBA (alpha dropped), CMYK and 16-bit grey
    images become RGB.

    Raises:
        ValueError: the file is missing, not an image, truncated, or larger than `MAX_PIXELS`.
    """
    if (plain := _decoded_plain(path, "image")) is not None:
        return plain
    with _opened(path, "image") as picture:
        ImageOps.exif_transpose(picture, in_place=True)
        if picture.mode.startswith("I"):  # 16-bit grey: Pillow would clip at 255 instead of scaling
            return np.asarray(Image.fromarray((np.asarray(picture) // 257).astype(np.uint8)).convert("RGB"))
        coloured = picture.convert("RGBA") if picture.mode == "P" else picture  # palettes may hold an alpha
        return np.asarray(coloured.convert("RGB"))


def read_pair_labels(pair: Pair, label_space: LabelSpace) -> NDArray[np.uint8]:
    """Read the labels of a pair as (H, W) uint8 train ids, [0, K) or 255.

    Args:
        pair: says which file, and which table translates it if it is not that of its data set.
        label_space: of the data set.

    Raises:
        ValueError: the labels are withheld, or the file cannot be read or translated.
    """
    return read_labels(labels_of(pair), pair.label_space or label_space)


def read_labels(path: Path, label_space: LabelSpace) -> NDArray[np.uint8]:
    """Read a label file as (H, W) uint8 train ids, [0, K) or 255.

    Raises:
        ValueError: as `read_ids`, or the file holds undeclared ids.
    """
    return label_space.to_train_ids(read_ids(path), str(path))


def read_ids(path: Path) -> NDArray[np.uint8]:
    """Read a label file as (H, W) uint8 ids as they are stored.

    Palette files give their indices, not their colours; modes whose ids would need a conversion are refused. So is an
    EXIF orientation: viewers would turn the labels, most programs would not, and 180 degrees show in no size.

    Raises:
        ValueError: the file is missing, broken, larger than `MAX_PIXELS`, turned, or not single-channel 8-bit.
    """
    if (plain := _decoded_plain(path, "label file")) is not None:
        return plain
    with _opened(path, "label file") as picture:
        mode, raw, orientation = picture.mode, np.asarray(picture), _orientation(picture)
    if mode not in _LABEL_MODES:
        raise ValueError(
            f"label file '{path}' has mode {mode}, but class ids need one 8-bit channel (mode L or P); "
            "save the ids themselves, not their colours"
        )
    if orientation != 1:
        raise ValueError(
            f"label file '{path}' carries the EXIF orientation {orientation}, which leaves open how its ids lie; "
            "save them upright, as their image is seen, without EXIF"
        )
    return raw


def labels_of(pair: Pair) -> Path:
    """Give the label file of a pair that must have one.

    Raises:
        ValueError: the labels of this split are withheld.
    """
    if pair.labels is None:
        raise ValueError(
            f"the labels of '{pair.image}' are not published, so its split can be segmented but neither trained on nor "
            "scored: choose another split (split=val)"
        )
    return pair.labels


def require_same_size(pair: Pair, image: tuple[int, int], labels: tuple[int, int]) -> None:
    """Refuse labels of another (height, width) than their image.

    Raises:
        ValueError: the sizes differ; names the label file and both sizes.
    """
    if image != labels:
        raise ValueError(
            f"label file '{pair.labels}' is {labels[0]}x{labels[1]} pixels (height x width), but its "
            f"image '{pair.image}' is {image[0]}x{image[1]}; give both the same size"
        )


def image_size(path: Path) -> tuple[int, int]:
    """Give the upright (height, width) of an image from its header, and check that the file is whole.

    Raises:
        ValueError: the file is missing, not an image, truncated, or larger than `MAX_PIXELS`.
    """
    with _opened(path, "image") as picture:
        width, height = picture.size
        sideways = _orientation(picture) in _SIDEWAYS
        if picture.format == "PNG":
            picture.verify()  # walks the checksums
        else:  # `verify` ignores JPEG, where decoding at the smallest scale still reads the whole stream
            picture.draft(None, (1, 1))
            picture.load()
    return (width, height) if sideways else (height, width)


def pixel_count(path: Path) -> int:
    """Give the number of pixels of a picture from its header.

    Raises:
        ValueError: the file is missing, or not an image.
    """
    with _opened(path, "image") as picture:
        return picture.width * picture.height


def planes(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Give an image as networks take it, in batches and for predictions alike: share = byte / 255, channels first.

    Channel by channel, which is six times as fast as transposing.

    Args:
        image: (H, W, 3) uint8 RGB.

    Returns:
        (3, H, W) float32 in [0, 1].
    """
    shares = np.empty((3, *image.shape[:2]), np.float32)
    for share, channel in zip(shares, cv2.split(image), strict=True):
        np.divide(channel, np.float32(255), out=share)
    return shares


def decode_plain_png(path: Path, grey: bool, max_pixels: int) -> NDArray[np.uint8] | None:
    """Decode a whole 8-bit PNG that both readers understand alike, to the same bytes that Pillow gives.

    Anything in doubt is left to Pillow, which reads it or says what is wrong: another colour type or depth, interlaced
    or animated files, parts that could turn the picture, files that do not end where a PNG ends, and too many
    pixels. JPEG is left to Pillow altogether: OpenCV fills up truncated files.

    Args:
        path: the file.
        grey: True for label files, of one channel; False for images in colour.
        max_pixels: the largest picture that is decoded here.

    Returns:
        (H, W) or (H, W, 3) uint8 RGB; None where Pillow shall read.

    Raises:
        OSError: there is no such file, or it cannot be read.
    """
    content = path.read_bytes()
    if not _is_plain(content, _GREY if grey else _RGB, max_pixels):
        return None
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:  # damaged inside
        return None
    return np.asarray(decoded if grey else cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=decoded), dtype=np.uint8)


def _is_plain(content: bytes, colour_type: int, max_pixels: int) -> bool:
    """Tell whether the file is a whole, simple PNG of 8 bits, this colour type and no more pixels."""
    if not content.startswith(_SIGNATURE + _START) or len(content) < 33:
        return False
    width, height, *form = struct.unpack_from(">IIBBBBB", content, 16)
    if form != [8, colour_type, 0, 0, 0] or width * height > max_pixels:
        return False
    place, part = len(_SIGNATURE), b""
    while place + 12 <= len(content) and part != b"IEND":
        length, part = struct.unpack_from(">I4s", content, place)
        is_remark = part == b"tEXt" and not content.startswith(_ORIENTING, place + 8)
        if part not in _HARMLESS and not is_remark:
            return False
        place += 12 + length
    return part == b"IEND" and place == len(content)


def _decoded_plain(path: Path, what: str) -> NDArray[np.uint8] | None:
    """Decode a file of the usual kind by the faster reader; None leaves it to Pillow."""
    with _broken_named(path, what):
        return decode_plain_png(path, what == "label file", MAX_PIXELS)


@contextmanager
def _opened(path: Path, what: str) -> Iterator[Image.Image]:
    """Open an image for Pillow to read."""
    with _broken_named(path, what), Image.open(path) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        yield picture


@contextmanager
def _broken_named(path: Path, what: str) -> Iterator[None]:
    """Turn every way of being broken into one sentence that names the file."""
    try:
        yield
    except _BOMB as error:
        raise ValueError(
            f"{what} '{path}' declares {_declared_size(path)}, more than the {MAX_PIXELS:,} that are decoded at most; "
            "replace the file, or cut it into tiles"
        ) from error
    except _BROKEN as error:
        raise ValueError(f"cannot read {what} '{path}' ({error}); replace the file") from error


def _declared_size(path: Path) -> str:
    """Read a picture's size, in words, by Pillow's readers of single formats, which know no limits."""
    for reader in (PngImageFile, JpegImageFile, BmpImageFile):
        with suppress(*_BROKEN), path.open("rb") as file:
            width, height = reader(file).size
            return f"{height}x{width} pixels (height x width)"
    return "pixels"


def _orientation(picture: Image.Image) -> int:
    """Give the EXIF orientation; for PNG only from the header, since Pillow would decode the whole file."""
    if picture.format == "PNG" and "exif" not in picture.info:
        return 1
    return int(picture.getexif().get(_ORIENTATION, 1))
