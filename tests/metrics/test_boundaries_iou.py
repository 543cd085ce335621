from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from gss.metrics.boundaries import BoundaryIoU
from gss.metrics.confusion import ConfusionMatrix


def measured(predicted, labels, num_classes, ratio):
    metric = BoundaryIoU(num_classes, ratio)
    for picture in range(len(labels)):
        metric.update(predicted[picture : picture + 1], labels[picture : picture + 1])
    return metric


def published_band(mask, ratio):
    """`mask_to_boundary` of the paper's code: a frame of zeros, d erosions by a 3x3 square, what they took away."""
    height, width = mask.shape
    steps = max(1, round(ratio * np.sqrt(height**2 + width**2)))
    framed = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=steps)[1:-1, 1:-1]
    return mask & (eroded == 0)


def looped_band(mask, ratio):
    """The same pixel by pixel: of the mask, and something else or the outside at most d rows and columns away."""
    height, width = mask.shape
    reach, band = max(1, round(ratio * math.hypot(height, width))), np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        around = [(v, u) for v in range(y - reach, y + reach + 1) for u in range(x - reach, x + reach + 1)]
        band[y, x] = any(not (0 <= v < height and 0 <= u < width and mask[v, u]) for v, u in around)
    return band


def counted(predicted, labels, num_classes, ratio, band_of):
    """IoU of the bands of each class's mask, pooled over pictures; ignored pixels belong to no mask."""
    result = []
    for k in range(num_classes):
        both = either = 0
        for guess, true in zip(predicted.numpy(), labels.numpy(), strict=True):
            bands = [band_of(true == k, ratio), band_of((guess == k) & (true != 255), ratio)]
            both, either = both + (bands[0] & bands[1]).sum(), either + (bands[0] | bands[1]).sum()
        result.append(both / either if either else math.nan)
    return result


@pytest.mark.parametrize("band_of", [published_band, looped_band])
@pytest.mark.parametrize("ratio", [0.001, 0.02, 0.06, 0.1, 2.0])  # reaches of 1, 1, 2, 4 and beyond the picture
@pytest.mark.parametrize("ignored", [False, True])
def test_scores_are_those_of_the_papers_code_and_of_a_plain_loop(draw_labels, band_of, ratio, ignored):
    size = (9, 12) if band_of is looped_band and ratio == 2.0 else (22, 30)
    labels = draw_labels(3, size, num_classes=5, ignored=ignored)
    noisy = torch.where(torch.from_numpy(np.random.default_rng(0).random(labels.shape) < 0.02), 1, labels)
    predicted = torch.where(noisy == 255, 0, noisy).roll(2, dims=2)
    metric = measured(predicted, labels, 6, ratio)
    expected = counted(predicted, labels, 6, ratio, band_of)
    assert metric.compute().tolist() == pytest.approx(expected, nan_ok=True)
    assert metric.mean() == pytest.approx(np.nanmean(expected))
    assert math.isnan(expected[5])
    assert 0 < metric.mean() < 1


@pytest.mark.parametrize(("size", "reach"), [((192, 256), 6), ((1024, 2048), 46), ((8, 8), 1)])
def test_the_reach_is_two_percent_of_the_diagonal(size, reach):
    """Labels of one class that fill the picture: a frame of that width along its border."""
    labels = torch.zeros(1, *size, dtype=torch.int64)
    metric = BoundaryIoU(1)
    metric.update(labels, labels)
    inner = (size[0] - 2 * reach) * (size[1] - 2 * reach)
    assert metric.bands.tolist() == [[size[0] * size[1] - inner]] * 3


def test_a_large_interior_does_not_hide_a_shifted_outline():
    labels = torch.zeros(1, 100, 100, dtype=torch.int64)
    labels[:, 20:80, 20:80] = 1
    predicted, matrix = labels.roll(3, dims=1), ConfusionMatrix(2)
    matrix.update(predicted, labels)
    iou = matrix.compute()[1, 1] / (2 * 3600 - matrix.compute()[1, 1])
    assert measured(predicted, labels, 2, 0.02).compute()[1] < 0.55 < 0.9 < iou


def test_counts_add_up_over_processes(draw_labels):
    labels, predicted = (draw_labels(4, (16, 16), 4, seed=seed) for seed in range(2))
    whole, first, second = BoundaryIoU(4), BoundaryIoU(4), BoundaryIoU(4)
    whole.update(predicted, labels)
    first.update(predicted[:1], labels[:1]), second.update(predicted[1:], labels[1:])
    first.merge_state(second)
    assert first.compute().equal(whole.compute())
    assert whole._reductions["bands"] is ConfusionMatrix(4)._reductions["matrix"]  # a sum over processes
    whole.reset()
    assert math.isnan(whole.mean())
