from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from gss.data.reading import image_size, read_image, read_labels

ORIENTATION = 0x0112
UPRIGHT = {  # what a viewer must do to the stored array, per EXIF orientation
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.fixture
def rgb():
    return np.random.default_rng(1).integers(0, 256, (6, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_images_are_turned_upright(tmp_path, rgb, orientation):
    picture = Image.fromarray(rgb)
    exif = picture.getexif()
    exif[ORIENTATION] = orientation
    for name in ("a.png", "a.jpg"):
        picture.save(tmp_path / name, exif=exif)
        assert image_size(tmp_path / name) == UPRIGHT[orientation](rgb).shape[:2]
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), UPRIGHT[orientation](rgb))


@pytest.mark.filterwarnings("error")
def test_grey_palette_and_transparent_images_become_rgb(tmp_path, rgb):
    grey, alpha = rgb[..., 0], rgb[..., :1]
    palette = Image.fromarray(rgb).quantize(16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.concatenate([rgb, alpha], axis=-1)).save(tmp_path / "rgba.png")
    palette.save(tmp_path / "palette.png", transparency=bytes([0, 128, 255]))
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.stack([grey] * 3, axis=-1))
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), rgb)
    table = np.array(palette.getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), table[np.asarray(palette)])


def test_a_cmyk_image_becomes_rgb(tmp_path):
    Image.new("CMYK", (16, 8), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=100)
    red = read_image(tmp_path / "red.jpg")
    assert red.shape == (8, 16, 3)
    assert np.abs(red.astype(int) - (255, 0, 0)).max() <= 3


def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path):
    deep = np.array([[0, 257, 32896, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_palette_labels_give_their_indices_not_their_colours(tmp_path, label_space):
    ids = np.array([[0, 1, 2, 2]], np.uint8)
    picture = Image.fromarray(ids)
    picture.putpalette([200, 10, 10, 10, 200, 10, 10, 10, 200])
    assert picture.mode == "P"
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "packed.png", bits=2)
    assert read_labels(tmp_path / "a.png", label_space).tolist() == ids.tolist()
    assert read_labels(tmp_path / "packed.png", label_space).tolist() == ids.tolist()


@pytest.mark.parametrize(
    ("pixels", "mode"),
    [
        (np.zeros((4, 4, 3), np.uint8), "RGB"),
        (np.zeros((4, 4, 4), np.uint8), "RGBA"),
        (np.zeros((4, 4), np.uint16), "I;16"),
        (np.zeros((4, 4), bool), "1"),
    ],
)
def test_labels_in_another_mode_are_refused_not_converted(tmp_path, label_space, pixels, mode):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=rf"a\.png' has mode {mode}, but class ids need one 8-bit channel"):
        read_labels(tmp_path / "a.png", label_space)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.6, 0.97])
def test_a_truncated_image_is_named(tmp_path, name, share):
    noise = np.random.default_rng(2).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    for read in (read_image, image_size):
        with pytest.raises(ValueError, match=rf"cannot read image '.*{name}'") as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_flipped_byte_in_a_png_is_found_without_decoding_it(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[content.index(b"IDAT") + 20] ^= 255
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match="cannot read image"):
        image_size(tmp_path / "a.png")


def test_broken_and_missing_label_files_are_named(tmp_path, label_space):
    (tmp_path / "text.png").write_text("not an image")
    for name in ("text.png", "missing.png"):
        with pytest.raises(ValueError, match=rf"cannot read label file '.*{name}'"):
            read_labels(tmp_path / name, label_space)


def declare(path, width, height):
    """Write a sound PNG of four pixels, then let its header claim another size."""
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (9_000, 9_000), (60_000, 60_000)])
def test_a_header_that_claims_too_much_is_refused_before_anything_is_decoded(tmp_path, label_space, width, height):
    declare(tmp_path / "bomb.png", width, height)
    reads = (read_image, image_size, lambda path: read_labels(path, label_space))
    for read in reads:
        with pytest.raises(ValueError, match=rf"bomb\.png' declares {height}x{width} pixels .* 67,108,864"):
            read(tmp_path / "bomb.png")


def test_labels_that_are_turned_by_exif_are_refused(tmp_path, label_space):
    picture = Image.fromarray(np.zeros((4, 8), np.uint8))
    exif = picture.getexif()
    exif[0x0112] = 3
    picture.save(tmp_path / "a.png", exif=exif)
    with pytest.raises(ValueError, match=r"a\.png' carries the EXIF orientation 3"):
        read_labels(tmp_path / "a.png", label_space)
