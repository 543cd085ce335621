from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from gss.assembly.checkpoints import TrainedSegmenter
from gss.maskige.palette import max_distance_palette
from gss.predict import predict

# name -> (PIL mode, width, height): as cameras and scanners leave them
IMAGES = {
    "fits.png": ("RGB", 64, 32),
    "odd.png": ("RGB", 71, 50),
    "tall.jpg": ("RGB", 20, 90),
    "GREY.JPG": ("L", 64, 40),
    "alpha.png": ("RGBA", 48, 48),
    "indexed.png": ("P", 33, 65),
    "print.tif": ("CMYK", 40, 30),
    "sub/folder.bmp": ("RGB", 16, 16),
}


@pytest.fixture
def images(tmp_path):
    """A folder of drawn images of every kind, and a note that is none."""
    folder, random = tmp_path / "images", np.random.default_rng(0)
    for name, (mode, width, height) in IMAGES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / name)
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture
def run_predict(compose_run, tiny_checkpoint, tmp_path):
    """Give a function that predicts in this process and returns the folder of the pictures."""

    def run(source, *overrides, checkpoint=tiny_checkpoint):
        given = [f"checkpoint={checkpoint}", f"input={source}", f"output={tmp_path / 'pictures'}"]
        predict(compose_run(tmp_path / "run", *given, *overrides, name="predict"))
        return tmp_path / "pictures"

    return run


def pixels(path):
    return np.asarray(Image.open(path))


def test_every_image_gets_three_pictures_of_its_own_size(run_predict, images):
    output = run_predict(images)
    for kind, mode in {"labels": "L", "maskige": "RGB", "overlay": "RGB"}.items():
        assert len(list((output / kind).iterdir())) == len(IMAGES)
        for name, (_, width, height) in IMAGES.items():
            picture = Image.open(output / kind / f"{name.rpartition('/')[2].rpartition('.')[0]}.png")
            assert (picture.size, picture.mode) == ((width, height), mode)
    assert all(pixels(path).max() < 19 for path in (output / "labels").iterdir())


@pytest.mark.parametrize("readout", ["pixel", "argmax", "expected"])
def test_an_image_of_the_trained_size_is_labelled_as_the_network_says(run_predict, images, tiny_checkpoint, readout):
    output = run_predict(images / "fits.png", f"readout={readout}")
    image = torch.from_numpy(pixels(images / "fits.png").copy()).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        expected = TrainedSegmenter.load(tiny_checkpoint).segmenter(image, readout)
    assert (pixels(output / "labels" / "fits.png") == expected.labels()[0].numpy()).all()


def test_a_maskige_of_the_likeliest_tokens_is_painted_in_the_palette(run_predict, images):
    output = run_predict(images / "odd.png", "readout=argmax")
    allowed = {tuple(colour) for colour in (max_distance_palette(19).colours * 255).round().int().tolist()}
    painted = pixels(output / "maskige" / "odd.png").reshape(-1, 3)
    assert {tuple(colour) for colour in np.unique(painted, axis=0).tolist()} <= allowed


def test_the_pixel_readout_generates_no_maskige(run_predict, images):
    output = run_predict(images / "fits.png", "readout=pixel")
    assert {path.name for path in output.iterdir()} == {"labels", "overlay"}


def test_the_overlay_mixes_image_and_display_colours(run_predict, images, tiny_checkpoint):
    output = run_predict(images / "odd.png", "opacity=0.25")
    colours = np.array(TrainedSegmenter.load(tiny_checkpoint).label_space.colours)
    mixed = 0.75 * pixels(images / "odd.png") + 0.25 * colours[pixels(output / "labels" / "odd.png")]
    assert np.abs(pixels(output / "overlay" / "odd.png") - mixed).max() <= 0.5 + 1e-3


def test_an_image_taken_sideways_is_put_upright(run_predict, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((32, 64, 3), np.uint8)).save(tmp_path / "sideways.jpg", exif=exif)
    output = run_predict(tmp_path / "sideways.jpg")
    assert pixels(output / "labels" / "sideways.png").shape == (64, 32)


def test_a_broken_image_is_named_and_does_not_stop_the_others(run_predict, images):
    whole = (images / "odd.png").read_bytes()
    (images / "broken.png").write_bytes(whole[: len(whole) // 2])
    (images / "empty.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"2 of 10 images were left out: .*broken\.png.*empty\.jpg") as caught:
        run_predict(images)
    assert "\n" not in str(caught.value)
    written = {path.stem for path in (images.parent / "pictures" / "overlay").iterdir()}
    assert written == {name.rpartition("/")[2].rpartition(".")[0] for name in IMAGES}


def test_two_images_of_one_name_are_refused_before_anything_is_written(run_predict, images, tmp_path):
    Image.new("RGB", (8, 8)).save(images / "sub" / "odd.jpg")
    with pytest.raises(ValueError, match=r"odd\.png' and '.*odd\.jpg' would both write odd\.png"):
        run_predict(images)
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("readout=argmin", r"unknown readout='argmin': one of pixel, argmax, expected"),
        ("opacity=2", r"opacity lies in 0 to 1, got 2"),
        ("checkpoint=none.ckpt", r"no checkpoint=none\.ckpt"),
        ("device=gpu", r"device=gpu"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(run_predict, images, tmp_path, override, message):
    with pytest.raises(ValueError, match=message):
        run_predict(images, override)
    assert not (tmp_path / "pictures").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_a_missing_gpu_is_said_with_the_way_out(run_predict, images):
    with pytest.raises(ValueError, match="device=cuda, but no CUDA device was found: choose device=cpu"):
        run_predict(images, "device=cuda")


@pytest.mark.parametrize("source", ["nowhere", "."])
def test_a_folder_without_images_is_refused_with_the_endings(run_predict, tmp_path, source):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"input=.* holds no image \(\.jpg, "):
        run_predict(tmp_path / "empty" / source)


def test_windows_and_views_label_every_image_at_its_own_size_without_a_maskige(run_predict, images):
    windows = ("inference=window", "inference.window=[24,32]", "inference.step=[16,16]", "inference.blend=hann")
    output = run_predict(images, *windows, "inference.flip=true")
    assert {path.name for path in output.iterdir()} == {"labels", "overlay"}
    for name, (_, width, height) in IMAGES.items():
        labels = pixels(output / "labels" / f"{name.rpartition('/')[2].rpartition('.')[0]}.png")
        assert labels.shape == (height, width)
        assert labels.max() < 19


def test_a_window_that_covers_an_image_is_the_whole_image(run_predict, images):
    whole = pixels(run_predict(images / "odd.png", "inference.scale=native") / "labels" / "odd.png")
    window = run_predict(images / "odd.png", "inference=window")
    assert (pixels(window / "labels" / "odd.png") == whole).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (33, 1), (7, 5)])
def test_images_of_a_few_pixels_are_padded_and_cut_again(run_predict, tmp_path, size):
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(tmp_path / "small.png")
    for settings in ("inference.scale=native", "inference.name=window"):
        labels = pixels(run_predict(tmp_path / "small.png", settings) / "labels" / "small.png")
        assert labels.shape == size
