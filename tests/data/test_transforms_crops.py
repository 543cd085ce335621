"""Crops at an image's own resolution, against resizing everything first as published recipes do."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from gss.data.transforms import (
    NEAREST,
    Augmentation,
    NativeCrop,
    Span,
    base_magnification,
    is_varied,
    training_transform,
)

STILL = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "flip": 0.0}
MEAN_COLOUR = (124, 116, 104)


def smooth(height, width):
    """An image of slow waves, (H, W, 3) uint8, and labels of 4 classes that follow its first channel."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = [np.sin(x / 34 + y / 46 + phase) * np.cos(y / 38) for phase in (0, 1, 2)]
    image = np.rint(127.5 + 120 * np.stack(waves, -1)).astype(np.uint8)
    return image, image[..., 0] // 64


def sampled(augmentation, image, labels, size, number):
    """The crops that a pipeline samples with seeds 0, 1, 2, ..., as parameters and as results."""
    pipeline = training_transform(size, augmentation)
    step, crops, found = pipeline.transforms[0], [], []
    sample = step.get_params_dependent_on_data
    step.get_params_dependent_on_data = lambda params, data: crops.append(sample(params, data)) or crops[-1]
    for seed in range(number):
        pipeline.set_random_seed(seed)
        seen = pipeline(image=image, mask=labels)
        found.append((crops[-1], seen))
    return found


def test_cutting_first_is_resizing_everything_and_cropping_within_half_a_pixel():
    image, labels = smooth(400, 600)
    size, augmentation = (192, 256), Augmentation(geometry="native", **STILL)
    ratios = []
    for crop, seen in sampled(augmentation, image, labels, size, 30):
        rows, columns = crop["rows"], crop["columns"]
        down, across = rows.placed / rows.length, columns.placed / columns.length
        assert down == pytest.approx(across, rel=0.01)
        whole = round(400 * down), round(600 * across)
        top, left = round(rows.start * down), round(columns.start * across)
        cut = np.s_[top : top + rows.placed, left : left + columns.placed]
        resized = cv2.resize(image, whole[::-1], interpolation=cv2.INTER_LINEAR)[cut].astype(float)
        nearest = cv2.resize(labels, whole[::-1], interpolation=NEAREST)[cut]
        inside = np.s_[2 : rows.placed - 2, 2 : columns.placed - 2]
        slope = 120 * (1 / 34 + 1 / 46 + 1 / 38) / down  # of the waves along both axes, levels per pixel of the result
        assert np.abs(seen["image"][inside] - resized[inside]).max() <= 0.75 * slope + 2
        assert (seen["mask"][inside] == nearest[inside]).mean() > 0.96
        ratios.append(down)
    assert min(ratios) < 0.7
    assert max(ratios) > 1.6
    assert 1.1 < np.mean(ratios) < 1.4  # uniform in ratio: 1.25; as often halved as doubled would give 1.08


def test_where_crops_fall_on_whole_pixels_the_result_is_the_very_same():
    rng = np.random.default_rng(0)
    image, labels = rng.integers(0, 256, (80, 60, 3), np.uint8), rng.integers(0, 5, (80, 60), np.uint8)
    crop, rows, columns = NativeCrop((48, 32), (2, 2), None, 1.0), Span(5, 24, 0, 48), Span(7, 16, 0, 32)
    twice = cv2.resize(image, (120, 160), interpolation=cv2.INTER_LINEAR)[10:58, 14:46]
    np.testing.assert_array_equal(crop.apply(image, rows, columns)[1:-1, 1:-1], twice[1:-1, 1:-1])
    np.testing.assert_array_equal(
        crop.apply_to_mask(labels, rows, columns), labels.repeat(2, 0).repeat(2, 1)[10:58, 14:46]
    )


@pytest.mark.parametrize(
    ("size", "base", "resized"),
    [
        ((683, 1024), (512, 2048), (512, 768)),  # the short side decides
        ((200, 1000), (512, 2048), (410, 2048)),  # the long side would exceed 2048
        ((1000, 200), (512, 2048), (2048, 410)),  # and the same upright
        ((1024, 2048), None, (1024, 2048)),
    ],
)
def test_the_base_is_the_largest_size_that_both_sides_allow(size, base, resized):
    """As published: min(2048 / long side, 512 / short side), then rounded to whole pixels."""
    magnification = base_magnification(*size, base)
    assert tuple(int(side * magnification + 0.5) for side in size) == resized


def test_an_image_at_its_base_fills_the_crop_with_its_short_side():
    image, labels = smooth(60, 90)
    augmentation = Augmentation(scale=(1.0, 1.0), geometry="native", base=(120, 480), **STILL)
    for crop, seen in sampled(augmentation, image, labels, (120, 120), 5):
        assert crop["rows"] == Span(0, 60, 0, 120)
        assert crop["columns"].length == 60
        assert seen["mask"].shape == (120, 120)


def test_small_images_are_padded_below_and_to_the_right_after_their_colours_changed():
    image, labels = np.full((40, 60, 3), 200, np.uint8), np.zeros((40, 60), np.uint8)
    colours = {"brightness": 0.4, "contrast": 0.5, "saturation": 0.5, "hue": 0.1}
    pipeline = training_transform(
        (30, 50), Augmentation((0.5, 0.5), 0.5, geometry="native", colour="distortion", **colours)
    )
    changed = 0
    for seed in range(10):
        pipeline.set_random_seed(seed)
        seen = pipeline(image=image, mask=labels)
        assert (seen["mask"][:20, :30] == 0).all()
        assert (seen["mask"][20:] == 255).all()
        assert (seen["mask"][:, 30:] == 255).all()
        assert (seen["image"][seen["mask"] == 255] == MEAN_COLOUR).all()
        changed += bool((seen["image"][0, 0] != 200).any())
    assert changed > 5


def test_flip_and_colours_do_not_follow_from_the_ratio():
    image, labels = np.full((80, 120, 3), 128, np.uint8), np.zeros((80, 120), np.uint8)
    labels[:, 60:] = 1
    pipeline = training_transform((40, 60), Augmentation((0.4, 0.5), geometry="native", colour="distortion"))
    looks = []
    for seed in range(400):
        pipeline.set_random_seed(seed)
        seen = pipeline(image=image, mask=labels)
        width = int((seen["mask"][0] != 255).sum())
        looks.append((width, seen["mask"][0, 0] == 1, np.abs(seen["image"][0, 0].astype(int) - 128).mean()))
    flips, correlations = np.mean([flip for _, flip, _ in looks]), np.corrcoef(np.array(looks, float).T)
    assert flips == pytest.approx(0.5, abs=0.08)
    assert np.abs(correlations[np.triu_indices(3, 1)]).max() < 0.15


def by_counting(labels, max_share):
    values, counts = np.unique(labels, return_counts=True)
    counts = counts[values != 255]
    return len(counts) > 1 and counts.max() / counts.sum() < max_share


@pytest.mark.parametrize("seed", range(8))
def test_a_varied_crop_is_one_by_counting(seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 1, 254, 255], np.uint8), (30, 40), p=[0.6, 0.05, 0.05, 0.3])
    for max_share in (0.5, 0.8, 0.86, 0.99):
        assert is_varied(labels, max_share) == by_counting(labels, max_share)


@pytest.mark.parametrize(
    ("counts", "varied"), [((75, 25), False), ((74, 26), True), ((100, 0), False), ((0, 0), False), ((37, 13), True)]
)
def test_a_share_of_the_labelled_pixels_decides(counts, varied):
    labels = np.full(100, 255, np.uint8)
    labels[: counts[0]], labels[counts[0] : sum(counts)] = 3, 7
    assert is_varied(labels.reshape(10, 10), 0.75) is varied


def test_crops_of_one_class_are_sampled_again_and_the_eleventh_is_taken_as_it_is():
    image, labels = np.zeros((100, 400, 3), np.uint8), np.zeros((100, 400), np.uint8)
    labels[:, 300:] = 1  # a quarter: most crops show one class
    shares = {}
    for max_share in (0.75, 1.0):
        augmentation = Augmentation(scale=(1.0, 1.0), geometry="native", max_share=max_share, **STILL)
        seen = [seen["mask"] for _, seen in sampled(augmentation, image, labels, (80, 80), 200)]
        shares[max_share] = np.mean([by_counting(mask, 0.75) for mask in seen])
    one = 39 / 321  # of 321 starts those at which 21 to 59 of 80 columns show class 1
    assert shares[1.0] == pytest.approx(one, abs=0.08)
    assert shares[0.75] == pytest.approx(1 - (1 - one) ** 11, abs=0.08)

    tries, alone = [], training_transform((80, 80), Augmentation(geometry="native", max_share=0.75)).transforms[0]
    alone.apply_to_mask = lambda mask, rows, columns: tries.append(rows) or np.zeros((8, 8), np.uint8)
    taken = alone.get_params_dependent_on_data({"shape": image.shape}, {"mask": labels})
    assert len(tries) == 10
    assert taken["rows"] is not tries[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"geometry": "crop"}, r"unknown data\.augmentation\.geometry='crop': one of fit, native"),
        ({"colour": "none"}, r"unknown data\.augmentation\.colour='none': one of jitter, distortion"),
        ({"geometry": "native", "base": [2048, 512]}, r"base needs 0 < short <= long, got \(2048, 512\); mend data"),
        ({"geometry": "native", "base": [512]}, r"base needs 0 < short <= long, got \(512,\)"),
        ({"geometry": "native", "max_share": 0.0}, r"max_share lies above 0 and up to 1, got 0\.0; mend data"),
        ({"max_share": 0.75}, r"base=None and max_share=0\.75 belong to geometry=native"),
        ({"base": (512, 2048)}, r"base=\(512, 2048\) and max_share=1\.0 belong to geometry=native"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**arguments)
