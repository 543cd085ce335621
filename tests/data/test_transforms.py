from __future__ import annotations

import numpy as np
import pytest

from gss.data.transforms import (
    Augmentation,
    RandomScaleCrop,
    Span,
    crop_span,
    evaluation_transform,
    resize_labels,
    training_transform,
)

GEOMETRY = Augmentation(brightness=0, contrast=0, saturation=0, hue=0)
MEAN_COLOUR = (124, 116, 104)


def blocks(rng, shape, cell=16):
    """Piecewise constant labels 0 .. 9, and an image whose grey value is 20 times the label."""
    cells = rng.integers(0, 10, (-(-shape[0] // cell), -(-shape[1] // cell)), dtype=np.uint8)
    labels = np.kron(cells, np.ones((cell, cell), np.uint8))[: shape[0], : shape[1]]
    return np.repeat(20 * labels[..., None], 3, axis=2), np.ascontiguousarray(labels)


@pytest.mark.parametrize("scale", [0.3, 0.5, 0.77, 1.0, 1.5, 4.0])
def test_a_span_is_the_crop_of_source_over_scale_pixels(scale):
    for source in (1, 7, 100, 481):
        for position in (0.0, 0.3, 0.999):
            span = crop_span(source, 60, scale, position)
            assert 0 <= span.start <= span.start + span.length <= source
            assert 0 <= span.place <= span.place + span.placed <= 60
            assert span.length == min(source, max(1, round(source / scale)))
            assert abs(span.placed - min(60, 60 * scale)) <= 0.51 + 60 / source


def test_crops_and_padding_reach_both_ends_of_the_axis():
    positions = np.linspace(0, 0.9999, 200)
    starts = {crop_span(100, 50, 2.0, p).start for p in positions}
    places = {crop_span(100, 50, 0.5, p).place for p in positions}
    assert (min(starts), max(starts)) == (0, 50)
    assert (min(places), max(places)) == (0, 25)


def test_cutting_first_equals_resizing_everything_and_then_cutting():
    rng = np.random.default_rng(0)
    labels, image = (
        rng.integers(0, 5, (20, 30), dtype=np.uint8),
        rng.integers(0, 256, (20, 30, 3), dtype=np.uint8),
    )
    crop = RandomScaleCrop((20, 30), (2.0, 2.0))
    rows, columns = Span(4, 10, 0, 20), Span(9, 15, 0, 30)
    everything = labels.repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(crop.apply_to_mask(labels, rows, columns), everything[8:28, 18:48])
    resized = crop.apply(image, rows, columns)[1:-1, 1:-1]  # at the rim bilinear weights would look outside
    near, far = image[4:14, 9:24].astype(float), image[4:14, 9:24].astype(float)
    across = 0.75 * near[:, :-1] + 0.25 * far[:, 1:], 0.25 * near[:, :-1] + 0.75 * far[:, 1:]
    wide = np.stack(across, axis=2).reshape(10, 28, 3)
    down = 0.75 * wide[:-1] + 0.25 * wide[1:], 0.25 * wide[:-1] + 0.75 * wide[1:]
    np.testing.assert_allclose(resized, np.stack(down, axis=1).reshape(18, 28, 3), atol=1)


def test_images_shrink_by_averaging_and_labels_by_picking():
    rng = np.random.default_rng(1)
    image, labels = (
        rng.integers(0, 256, (32, 48, 3), dtype=np.uint8),
        rng.integers(0, 5, (32, 48), dtype=np.uint8),
    )
    seen = evaluation_transform((16, 24))(image=image, mask=labels)
    means = image.reshape(16, 2, 24, 2, 3).mean((1, 3))
    np.testing.assert_allclose(seen["image"], means, atol=1)
    choices = labels.reshape(16, 2, 24, 2).swapaxes(1, 2).reshape(16, 24, 4)
    assert (choices == seen["mask"][..., None]).any(-1).all()
    np.testing.assert_array_equal(seen["mask"], resize_labels(labels, (16, 24)))


def test_labels_are_taken_at_pixel_centres():
    labels = np.arange(9, dtype=np.uint8)[None].repeat(9, 0)
    assert resize_labels(labels, (3, 3))[0].tolist() == [1, 4, 7]


def test_small_scales_are_padded_with_ignore_and_the_mean_colour():
    image, labels = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), np.uint8)
    pipeline = training_transform((20, 30), Augmentation((0.5, 0.5), 0.5, 0, 0, 0, 0))
    seen = pipeline(image=image, mask=labels)
    padded = seen["mask"] == 255
    assert padded.sum() == 20 * 30 - 10 * 15
    assert (seen["image"][padded] == MEAN_COLOUR).all()
    assert (seen["image"][~padded] == 0).all()


def test_image_and_labels_stay_aligned_and_labels_are_never_mixed():
    image, labels = blocks(np.random.default_rng(2), (96, 128))
    pipeline = training_transform((48, 64), GEOMETRY)
    paddings = set()
    for draw in range(40):
        pipeline.set_random_seed(draw)
        seen = pipeline(image=image, mask=labels)
        assert set(np.unique(seen["mask"])) <= {*range(10), 255}
        around = np.lib.stride_tricks.sliding_window_view(seen["mask"], (3, 3)).reshape(46, 62, 9)
        inner = (around == around[..., :1]).all(-1) & (around[..., 0] != 255)  # images blend at edges
        assert inner.mean() > 0.03
        difference = seen["image"][1:-1, 1:-1, 0] - 20.0 * around[..., 0]
        assert np.abs(difference[inner]).max() <= 2
        paddings.add(int((seen["mask"] == 255).sum()))
    assert len(paddings) > 5


def test_about_half_of_the_draws_are_mirrored():
    image, labels = np.zeros((8, 8, 3), np.uint8), np.arange(8, dtype=np.uint8)[None].repeat(8, 0)
    pipeline = training_transform((8, 8), Augmentation((1.0, 1.0), 0.5, 0, 0, 0, 0))
    pipeline.set_random_seed(0)
    mirrored = [bool(pipeline(image=image, mask=labels)["mask"][0, 0] == 7) for _ in range(200)]
    assert 70 < sum(mirrored) < 130


def test_colours_change_only_when_asked():
    image, labels = blocks(np.random.default_rng(3), (32, 32))
    still = training_transform((32, 32), Augmentation((1.0, 1.0), 0.0, 0, 0, 0, 0))(image=image, mask=labels)
    np.testing.assert_array_equal(still["image"], image)
    moved = training_transform((32, 32), Augmentation((1.0, 1.0), 0.0, 0.4, 0.4, 0.4, 0.1))
    moved.set_random_seed(0)
    seen = moved(image=image, mask=labels)
    assert np.abs(seen["image"].astype(int) - image).mean() > 3
    np.testing.assert_array_equal(seen["mask"], labels)


@pytest.mark.parametrize("source", [(1, 1), (37, 50), (500, 4), (3, 700)])
def test_the_result_has_the_asked_size_whatever_comes(source):
    image, labels = np.zeros((*source, 3), np.uint8), np.zeros(source, np.uint8)
    for pipeline in (evaluation_transform((24, 40)), training_transform((24, 40), Augmentation((0.25, 4.0)))):
        for _ in range(5):
            seen = pipeline(image=image, mask=labels)
            assert seen["image"].shape == (24, 40, 3)
            assert seen["mask"].shape == (24, 40)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"scale": (2.0, 1.0)},
            r"scale needs 0 < low <= high, got \(2\.0, 1\.0\); mend data\.augmentation\.scale",
        ),
        ({"scale": (0.0, 1.0)}, "scale needs 0 < low"),
        ({"scale": [1.0]}, "scale needs 0 < low"),
        ({"flip": 1.5}, r"flip lies in 0 to 1, got 1\.5; mend data\.augmentation\.flip"),
        ({"hue": 0.6}, r"hue lies in 0 to 0\.5, got 0\.6"),
        ({"brightness": -0.1}, r"brightness lies in 0 to 1, got -0\.1"),
    ],
)
def test_augmentation_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**arguments)
