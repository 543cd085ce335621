"""The faster reader of plain PNGs gives Pillow's pixels, or leaves the file to Pillow."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from gss.data.reading import MAX_PIXELS, decode_plain_png, read_image, read_labels

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 41, 3), np.uint8)


def by_pillow(path, mode):
    with Image.open(path) as picture:
        return np.asarray(picture.convert(mode))


def insert_part(path, name, content):
    """Put a part right after the header."""
    whole = path.read_bytes()
    part = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    path.write_bytes(whole[:33] + part + whole[33:])


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"compress_level": 0}, {"dpi": (72, 72)}])
def test_plain_files_give_pillows_pixels(tmp_path, options):
    colour, grey = tmp_path / "colour.png", tmp_path / "grey.png"
    Image.fromarray(PIXELS).save(colour, **options)
    Image.fromarray(PIXELS[..., 0]).save(grey, **options)
    np.testing.assert_array_equal(decode_plain_png(colour, False, MAX_PIXELS), by_pillow(colour, "RGB"))
    np.testing.assert_array_equal(decode_plain_png(grey, True, MAX_PIXELS), by_pillow(grey, "L"))
    assert decode_plain_png(colour, True, MAX_PIXELS) is None
    assert decode_plain_png(grey, False, MAX_PIXELS) is None


def test_remarks_and_gamma_change_nothing(tmp_path):
    path, remarks = tmp_path / "a.png", PngImagePlugin.PngInfo()
    remarks.add_text("Software", "a camera")
    Image.fromarray(PIXELS).save(path, pnginfo=remarks)
    insert_part(path, b"gAMA", struct.pack(">I", 30000))
    np.testing.assert_array_equal(decode_plain_png(path, False, MAX_PIXELS), PIXELS)
    np.testing.assert_array_equal(by_pillow(path, "RGB"), PIXELS)


def turned_by_exif(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(path, exif=exif)


def turned_by_text(path):
    remarks = PngImagePlugin.PngInfo()
    remarks.add_text("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    Image.fromarray(PIXELS).save(path, pnginfo=remarks)


LEFT = {
    "exif": turned_by_exif,
    "xmp": turned_by_text,
    "alpha": lambda path: Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]])).save(path),
    "transparent": lambda path: Image.fromarray(PIXELS).save(path, transparency=(0, 0, 0)),
    "palette": lambda path: Image.fromarray(PIXELS).quantize(8).save(path),
    "two levels": lambda path: Image.fromarray(PIXELS[..., 0] > 99).save(path),
    "16 bits": lambda path: Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257).save(path),
    "jpeg": lambda path: Image.fromarray(PIXELS).save(path, format="JPEG"),
}


@pytest.mark.parametrize("write", LEFT.values(), ids=LEFT)
def test_files_in_doubt_are_left_to_pillow(tmp_path, write):
    path = tmp_path / "a.png"
    write(path)
    assert decode_plain_png(path, False, MAX_PIXELS) is None
    assert decode_plain_png(path, True, MAX_PIXELS) is None
    assert read_image(path).shape[:2] == ((41, 30) if write in (turned_by_exif, turned_by_text) else (30, 41))


def test_a_file_too_large_to_be_true_is_left_to_pillow(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    whole = bytearray(path.read_bytes())
    whole[16:24] = struct.pack(">II", 30_000, 30_000)
    whole[29:33] = struct.pack(">I", zlib.crc32(bytes(whole[12:29])))
    path.write_bytes(whole)
    assert decode_plain_png(path, False, MAX_PIXELS) is None
    with pytest.raises(ValueError, match=r"image '.*a\.png' declares 30000x30000 pixels"):
        read_image(path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("grey", [False, True])
def test_a_truncated_file_is_named_not_filled_up(tmp_path, label_space, share, grey):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS[..., 0] % 3 if grey else PIXELS).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert decode_plain_png(path, grey, MAX_PIXELS) is None
    with pytest.raises(ValueError, match=r"cannot read .*a\.png"):
        read_labels(path, label_space) if grey else read_image(path)


def test_a_file_with_all_pixels_and_no_end_is_left_to_pillow(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    path.write_bytes(path.read_bytes()[:-12])
    assert decode_plain_png(path, False, MAX_PIXELS) is None
    np.testing.assert_array_equal(read_image(path), PIXELS)


def test_a_file_with_a_wrong_byte_inside_is_named(tmp_path, capfd):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 255
    path.write_bytes(whole)
    assert decode_plain_png(path, False, MAX_PIXELS) is None
    with pytest.raises(ValueError, match=r"cannot read image '.*a\.png'"):
        read_image(path)


def test_a_missing_file_is_named(tmp_path, label_space):
    with pytest.raises(ValueError, match=r"cannot read label file '.*a\.png' \(.*No such file"):
        read_labels(tmp_path / "a.png", label_space)
