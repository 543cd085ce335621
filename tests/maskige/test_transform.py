from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from gss.maskige.palette import Palette, max_distance_palette
from gss.maskige.transform import MaskigeTransform


def random_labels(num_classes, seed=0):
    """Labels that hold every class and ignored pixels."""
    choices = np.array([*range(num_classes), 255])
    labels = np.random.default_rng(seed).choice(choices, (2, 24, 32))
    labels.flat[: len(choices)] = choices
    return torch.from_numpy(labels)


@pytest.mark.parametrize("num_classes", [2, 19, 150])
def test_labels_survive_painting_exactly_ignored_pixels_included(num_classes):
    transform, labels = MaskigeTransform(max_distance_palette(num_classes)), random_labels(num_classes)
    painted = transform.paint(labels)
    assert painted.shape == (2, 3, 24, 32)
    assert painted.dtype == torch.float32
    assert transform.unpaint(painted).equal(labels)


def test_labels_survive_an_8_bit_png():
    transform, labels = MaskigeTransform(max_distance_palette(19)), random_labels(19)
    pixels = (transform.paint(labels)[0].permute(1, 2, 0) * 255).round().byte().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    read = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None].float() / 255
    assert transform.unpaint(read)[0].equal(labels[0])


def test_each_pixel_is_painted_in_the_colour_of_its_class():
    palette, labels = max_distance_palette(5), random_labels(5)
    painted = MaskigeTransform(palette).paint(labels)
    for picture, row, column in np.ndindex(*labels.shape):
        label = int(labels[picture, row, column])
        expected = palette.ignore_colour if label == 255 else palette.colours[label]
        assert painted[picture, :, row, column].equal(expected)


def test_a_generated_maskige_never_reads_as_ignored():
    transform = MaskigeTransform(max_distance_palette(19))
    black = torch.zeros(1, 3, 4, 4)
    assert (transform.unpaint(black) == 255).all()
    assert (transform.unpaint(black, with_ignore=False) < 19).all()


def test_both_colours_travel_with_the_weights():
    painter, reader = (MaskigeTransform(max_distance_palette(19)) for _ in range(2))
    reader.colours.zero_(), reader.ignore_colour.fill_(0.5)
    reader.load_state_dict(painter.state_dict())
    assert reader.colours.equal(painter.colours)
    assert reader.ignore_colour.equal(painter.ignore_colour)


def test_weights_loaded_after_a_first_reading_are_the_ones_that_read():
    first = max_distance_palette(3)
    transform, other = (
        MaskigeTransform(first),
        MaskigeTransform(Palette(first.colours.flip(0), first.ignore_colour)),
    )
    labels = random_labels(3)
    transform.unpaint(transform.paint(labels))
    transform.load_state_dict(other.state_dict())
    assert transform.unpaint(other.paint(labels)).equal(labels)
