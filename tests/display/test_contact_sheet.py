from __future__ import annotations

import numpy as np
import pytest
import torch

from gss.display import Section, draw_sheet
from gss.display.colours import colour_labels
from gss.labels import LabelSpace

SPACE = LabelSpace.from_names(["road", "car", "tree"], [[10, 200, 30], [200, 10, 30], [30, 10, 200]])


def found(sheet, labels, factor):
    """Left upper corners at which a label map stands in its display colours, enlarged by a whole factor."""
    picture = colour_labels(labels, SPACE).repeat(factor, 0).repeat(factor, 1)
    height, width = picture.shape[:2]
    places = np.argwhere((sheet[: -height + 1, : -width + 1] == picture[0, 0]).all(2))
    return [(y, x) for y, x in places.tolist() if (sheet[y : y + height, x : x + width] == picture).all()]


@pytest.fixture(scope="module")
def maps(draw_labels):
    """Five label maps of 20x30 pixels, each unlike the others; one has ignored pixels."""
    return list(torch.cat([draw_labels(4, (20, 30), 3), draw_labels(1, (20, 30), 3, seed=9, ignored=True)]))


def test_maps_stand_in_rows_in_the_order_given(maps):
    sections = [Section("drawn", maps[:3]), Section("real", maps[3:], ["one", "two"])]
    sheet = np.asarray(draw_sheet(sections, SPACE, columns=2, cell_width=60))
    places = [found(sheet, labels, 2) for labels in maps]
    assert [len(place) for place in places] == [1, 1, 1, 1, 1]
    (first,), (second,), (third,), (fourth,), (fifth,) = places
    assert first[0] == second[0] < third[0] < fourth[0] == fifth[0]
    assert first[1] == third[1] == fourth[1] < second[1] == fifth[1]


def test_large_maps_shrink_without_blending(draw_labels):
    labels = draw_labels(1, (90, 300), 3)
    sheet = np.asarray(draw_sheet([Section("drawn", list(labels))], SPACE, columns=1, cell_width=100))
    assert sheet.shape[1] < 200
    shrunk = labels[0, 1::3, 1::3]  # the middle of each 3x3
    assert len(found(sheet, shrunk, 1)) == 1


def test_captions_and_headings_take_room(maps):
    bare = draw_sheet([Section("drawn", maps[:2])], SPACE, columns=2)
    told = draw_sheet([Section("drawn", maps[:2], ["first", "second"])], SPACE, columns=2)
    assert told.height > bare.height
    assert told.width == bare.width


def test_the_legend_names_what_occurs(maps):
    alone = torch.zeros(20, 30, dtype=torch.int64)
    sheet = np.asarray(draw_sheet([Section("drawn", [alone])], SPACE, columns=1, cell_width=200))
    pixels = sheet.reshape(-1, 3).tolist()
    assert [10, 200, 30] in pixels
    assert [200, 10, 30] not in pixels
    ignored = np.asarray(draw_sheet([Section("drawn", maps[4:])], SPACE, columns=1, cell_width=200))
    assert [0, 0, 0] in ignored.reshape(-1, 3).tolist()
