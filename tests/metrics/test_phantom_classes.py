from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from gss.maskige.assignment import assign_colours, touching_counts
from gss.maskige.inverse import SoftDistance
from gss.maskige.palette import Palette, max_distance_palette, random_palette
from gss.maskige.transform import MaskigeTransform
from gss.metrics.phantom_classes import PhantomClassRate, blurred_phantom_class_rate


def rate(predicted, labels, width=3):
    metric = PhantomClassRate(width)
    metric.update(predicted, labels)
    return metric.compute().item()


def row(*values):
    return torch.tensor(values)[None, None]


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ((0, 0, 0, 0, 0, 1, 1, 1, 1, 1), 0),
        ((0, 0, 0, 1, 1, 0, 0, 1, 1, 1), 0),  # a boundary in the wrong place holds no third class
        ((0, 0, 0, 0, 2, 1, 1, 1, 1, 1), 1 / 6),  # the band is columns 2 to 7
        ((2, 2, 0, 0, 0, 1, 1, 1, 2, 2), 0),  # not in the band
        ((0, 2, 2, 2, 2, 2, 2, 2, 2, 0), 1),
    ],
)
def test_third_classes_are_counted_within_three_pixels_of_a_boundary(predicted, expected):
    assert rate(row(*predicted), row(0, 0, 0, 0, 0, 1, 1, 1, 1, 1)) == pytest.approx(expected)


def test_a_class_that_is_near_is_no_third_class():
    labels = row(0, 0, 0, 1, 1, 2, 2, 2)
    assert rate(row(0, 0, 2, 2, 0, 0, 2, 2), labels) == 0  # within three pixels each
    assert rate(row(2, 0, 0, 1, 1, 2, 2, 0), labels) == pytest.approx(2 / 8)  # five pixels off


def test_ignored_pixels_are_neither_counted_nor_near():
    labels = row(0, 0, 255, 255, 1, 1)
    assert rate(row(2, 2, 2, 2, 2, 2), labels, width=2) != rate(row(2, 2, 2, 2, 2, 2), labels, width=3)
    assert math.isnan(rate(row(2, 2, 2, 2, 2, 2), labels, width=2))  # no labelled pixel sees both classes
    assert rate(row(0, 2, 2, 2, 2, 1), labels) == 1  # columns 1 and 4 see both


def test_counts_are_those_of_a_loop_over_pixels_and_pool(draw_labels):
    labels = draw_labels(3, (14, 17), num_classes=6, ignored=True)
    predicted = draw_labels(3, (14, 17), num_classes=6, seed=1)
    band = third = 0
    for picture, y, x in np.ndindex(*labels.shape):
        square = labels[picture, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
        classes = set(square.flatten().tolist()) - {255}
        if labels[picture, y, x] != 255 and len(classes) > 1:
            band += 1
            third += int(predicted[picture, y, x]) not in classes
    metric = PhantomClassRate(2)
    for picture in range(3):
        metric.update(predicted[picture : picture + 1], labels[picture : picture + 1])
    assert metric.compute().item() == pytest.approx(third / band)
    assert third > 0


def test_a_mixture_is_read_as_the_class_between():
    """A 5-pixel blur of an edge between black and white passes grey: 2 of the 6 pixels of the band."""
    palette = Palette(torch.tensor([[0.1] * 3, [0.9] * 3, [0.5] * 3]), torch.zeros(3))
    labels = torch.tensor([0] * 6 + [1] * 6).expand(1, 8, 12)
    assert blurred_phantom_class_rate(MaskigeTransform(palette), [labels]) == pytest.approx(2 / 6)
    aside = Palette(torch.tensor([[0.1] * 3, [0.9] * 3, [0.9, 0.1, 0.1]]), torch.zeros(3))
    assert blurred_phantom_class_rate(MaskigeTransform(aside), [labels]) == 0


def test_ignored_pixels_stay_out_of_the_blur():
    palette = Palette(torch.tensor([[1.0] * 3, [0.5] * 3, [0.5, 0.5, 1.0]]), torch.zeros(3))
    labels = torch.tensor([0] * 4 + [255] * 4 + [0] * 4 + [1] * 4).expand(1, 8, 16)
    assert blurred_phantom_class_rate(MaskigeTransform(palette), [labels]) == 0


def pooled(maskige):
    return avg_pool2d(maskige, 5, 1, 2, count_include_pad=False)


def shrunk(maskige):
    small = interpolate(maskige, scale_factor=0.25, mode="area")
    return interpolate(small, scale_factor=4, mode="bilinear")


@pytest.mark.parametrize("palette", [max_distance_palette, random_palette])
@pytest.mark.parametrize("reconstruct", [pooled, shrunk])
def test_assigned_colours_leave_fewer_third_classes_in_labels_that_were_not_seen(draw_labels, palette, reconstruct):
    num_classes = 19
    labels = draw_labels(24, (64, 96), num_classes)
    # some classes meet more often than others: ids are drawn low
    skewed = torch.minimum(labels, draw_labels(24, (64, 96), num_classes, seed=1))
    train, val = skewed[:16], skewed[16:]
    in_class_order = palette(num_classes)
    assigned = assign_colours(in_class_order, touching_counts([train], num_classes), 900.0)
    before, after = (
        rate(SoftDistance()(reconstruct(transform.paint(val)), transform.colours).argmax(1), val)
        for transform in map(MaskigeTransform, (in_class_order, assigned))
    )
    assert before > 0.05
    assert after < 0.7 * before
