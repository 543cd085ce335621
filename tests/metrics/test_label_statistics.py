from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from gss.metrics.label_statistics import BANDS, ClassStatistics, class_statistics, distances, total_variation

NUM_CLASSES = 4


def pieces(picture, k):
    """Number of 4-connected pieces of a class, by flooding them one after the other."""
    todo, number = {(int(y), int(x)) for y, x in np.argwhere(picture == k)}, 0
    while todo:
        number, edge = number + 1, [todo.pop()]
        while edge:
            y, x = edge.pop()
            near = {(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)} & todo
            todo -= near
            edge += near
    return number


def counted(maps):
    """The three counts by loops over pixels, as Counters over what the shares are of."""
    position, touching, segments = Counter(), Counter(), Counter()
    for picture in maps.numpy():
        height, width = picture.shape
        for (y, x), k in np.ndenumerate(picture):
            if k == 255:
                continue
            position[(y * BANDS // height, k)] += 1
            for ny, nx in ((y + 1, x), (y, x + 1)):
                if ny < height and nx < width and picture[ny, nx] not in (k, 255):
                    touching[tuple(sorted((k, picture[ny, nx])))] += 1
        for k in range(NUM_CLASSES):
            number = pieces(picture, k)
            segments[(k, sum(number >= start for start in (1, 2, 3, 5, 9, 17)))] += 1
    return position, touching, segments


def variation(first, second):
    """Half the sum of differences between shares."""
    keys, whole, other = first.keys() | second.keys(), sum(first.values()), sum(second.values())
    return sum(abs(first[key] / whole - second[key] / other) for key in keys) / 2


def test_distances_are_those_of_a_count_by_hand(draw_labels):
    sets = [draw_labels(num, (24, 20), NUM_CLASSES, seed=seed, ignored=True) for num, seed in ((5, 0), (7, 1))]
    found = distances(*(class_statistics(maps, NUM_CLASSES) for maps in sets))
    first, second = (counted(maps) for maps in sets)
    assert found["position"] == pytest.approx(variation(first[0], second[0]))
    keys, counts = first[1].keys() | second[1].keys(), (first[1].total() / 5, second[1].total() / 7)
    apart = sum(abs(first[1][key] / 5 - second[1][key] / 7) for key in keys)
    assert found["touching"] == pytest.approx(apart / sum(counts))
    by_class = []
    for k in range(NUM_CLASSES):
        own, other = (Counter({key: n for key, n in side[2].items() if key[0] == k}) for side in (first, second))
        if own.keys() | other.keys() != {(k, 0)}:
            by_class.append(variation(own, other))
    assert found["segments"] == pytest.approx(np.mean(by_class))
    assert all(0 < value < 1 for value in found.values())


def test_a_set_is_nowhere_from_itself_and_order_does_not_matter(draw_labels):
    maps = draw_labels(6, (24, 20), NUM_CLASSES, ignored=True)
    statistics, turned = class_statistics(maps, NUM_CLASSES), class_statistics(maps.flip(0), NUM_CLASSES)
    assert distances(statistics, turned) == {"position": 0.0, "touching": 0.0, "segments": 0.0}


def test_counts_of_pieces_add_up_to_those_of_the_whole(draw_labels):
    maps = draw_labels(6, (24, 20), NUM_CLASSES, ignored=True)
    parts = [class_statistics(part, NUM_CLASSES) for part in maps.split(4)]
    whole, together = class_statistics(maps, NUM_CLASSES), parts[0].plus(parts[1])
    assert isinstance(together, ClassStatistics)
    for name in ("position", "touching", "segments"):
        assert getattr(whole, name).equal(getattr(together, name))


def test_maps_that_share_no_class_are_as_far_apart_as_can_be():
    left = torch.zeros(2, 8, 8, dtype=torch.int64)
    left[:, :, 4:] = 1
    found = distances(class_statistics(left, NUM_CLASSES), class_statistics(left + 2, NUM_CLASSES))
    assert found == {"position": 1.0, "touching": 1.0, "segments": 1.0}


def test_where_classes_lie_is_seen_in_position_alone():
    upright = torch.arange(16).div(4, rounding_mode="floor")[:, None].expand(16, 12)[None]
    found = distances(class_statistics(upright, NUM_CLASSES), class_statistics(upright.flip(1), NUM_CLASSES))
    assert found == {"position": 1.0, "touching": 0.0, "segments": 0.0}


def test_crumbs_are_seen_in_segments():
    whole = torch.zeros(1, 16, 16, dtype=torch.int64)
    crumbs = whole.clone()
    crumbs[0, ::4, ::4] = 1  # 16 pieces of a class that does not occur otherwise
    found = distances(class_statistics(whole, NUM_CLASSES), class_statistics(crumbs, NUM_CLASSES))
    assert found["segments"] == pytest.approx(0.5)  # class 0 is in one piece in both
    assert found["position"] == pytest.approx(16 / 256)
    assert found["touching"] == 1.0  # nothing touched before


def test_the_length_of_boundaries_counts_though_the_pairs_are_the_same():
    halves = torch.zeros(1, 16, 16, dtype=torch.int64)
    halves[:, :, 8:] = 1  # one boundary of 16 pixels
    stripes = torch.arange(16).remainder(2).expand(1, 16, 16)  # 15 of them
    found = distances(class_statistics(halves, NUM_CLASSES), class_statistics(stripes, NUM_CLASSES))
    assert found["touching"] == pytest.approx(14 / 16)
    assert found["position"] == 0


def test_ignored_pixels_count_nowhere():
    ignored = torch.full((1, 8, 8), 255)
    statistics = class_statistics(ignored, NUM_CLASSES)
    assert statistics.position.sum() == statistics.touching.sum() == 0
    assert distances(statistics, statistics) == {"position": 0.0, "touching": 0.0, "segments": 0}


def test_total_variation_of_counts_of_different_totals():
    assert total_variation(torch.tensor([1.0, 1.0]), torch.tensor([30.0, 10.0])) == pytest.approx(0.25)
    assert total_variation(torch.zeros(2), torch.zeros(2)) == 0
    assert total_variation(torch.zeros(2), torch.tensor([0.0, 2.0])) == 1
