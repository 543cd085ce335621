"""Panels: what the pixels say, against numpy and closed forms; that nothing spills, at any size."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from gss.display import PanelRow, draw_panel, error_map, uncertainty
from gss.display.colours import colour_labels, ignore_colour, overlay, to_pixels
from gss.display.readings import IGNORED, WRONG
from gss.labels import LabelSpace

THREE = LabelSpace.from_names(["road", "tree", "car"], [(10, 20, 30), (40, 150, 60), (200, 0, 90)])
PALETTE = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.2, 0.4, 0.8]])


def draw_row(
    size: tuple[int, int], label_space: LabelSpace = THREE, seed: int = 0, twin: bool = False, name: str = "a"
) -> PanelRow:
    """A row of drawn noise: about a tenth of the pixels ignored, about a fifth predicted wrongly."""
    rng = np.random.default_rng(seed)
    num_classes = label_space.num_classes
    labels = rng.integers(0, num_classes, size)
    predicted = np.where(rng.random(size) < 0.2, rng.integers(0, num_classes, size), labels)
    labels[rng.random(size) < 0.1] = 255
    weights = rng.random((num_classes, *size), dtype=np.float32) ** 4
    return PanelRow(
        name,
        torch.from_numpy(rng.random((3, *size), dtype=np.float32)),
        torch.from_numpy(labels),
        None if twin else torch.from_numpy(rng.random((3, *size), dtype=np.float32)),
        None if twin else torch.from_numpy(rng.random((3, *size), dtype=np.float32)),
        torch.from_numpy(predicted),
        torch.from_numpy(weights / weights.sum(0)),
    )


def count(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((pixels == np.array(colour)).all(-1).sum())


def find(panel: Image.Image, picture: np.ndarray) -> tuple[int, int] | None:
    """(top, left) of a picture that stands in the panel pixel for pixel, else None."""
    pixels = np.asarray(panel)
    height, width = picture.shape[:2]
    for top, left in zip(*np.nonzero((pixels == picture[0, 0]).all(-1)), strict=True):
        if np.array_equal(pixels[top : top + height, left : left + width], picture):
            return int(top), int(left)
    return None


def test_the_error_map_counts_as_numpy_does() -> None:
    row = draw_row((40, 60))
    picture = error_map(row.image, row.labels, row.predicted_labels)
    labels, predicted = row.labels.numpy(), row.predicted_labels.numpy()
    assert count(picture, IGNORED) == np.count_nonzero(labels == 255) > 0
    assert count(picture, WRONG) == np.count_nonzero((labels != 255) & (labels != predicted)) > 0
    right = picture[(labels != 255) & (labels == predicted)]
    assert right.min() > max(IGNORED)  # pale greys only: no right pixel can be taken for an ignored one
    assert np.array_equal(right[:, 0], right[:, 1])


def test_uncertainty_is_entropy_over_log_k() -> None:
    probs = draw_row((5, 7)).class_probs
    reference = torch.distributions.Categorical(probs=probs.permute(1, 2, 0).double()).entropy() / np.log(3)
    np.testing.assert_allclose(uncertainty(probs), reference.numpy(), atol=1e-6)


def test_uncertainty_at_its_ends() -> None:
    certain = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(4, 1, 1)
    between_two = torch.tensor([0.5, 0.5, 0.0, 0.0]).view(4, 1, 1)
    assert uncertainty(certain).item() == 0.0
    assert uncertainty(between_two).item() == pytest.approx(0.5)  # log 2 / log 4
    assert uncertainty(torch.full((4, 1, 1), 0.25)).item() == pytest.approx(1.0)
    assert uncertainty(torch.ones(1, 2, 2)).max() == 0.0  # one class: nothing to doubt


def test_labels_are_painted_pixel_by_pixel() -> None:
    labels = torch.tensor([[0, 1], [2, 255]])
    expected = [[(10, 20, 30), (40, 150, 60)], [(200, 0, 90), (0, 0, 0)]]
    assert colour_labels(labels, THREE).tolist() == [[list(c) for c in line] for line in expected]


def test_ignored_pixels_never_look_like_a_class() -> None:
    with_black = LabelSpace.from_names(["a", "b"], [(0, 0, 0), (9, 9, 9)])
    with_both = LabelSpace.from_names(["a", "b"], [(0, 0, 0), (255, 255, 255)])
    assert ignore_colour(THREE) == (0, 0, 0)
    for label_space in (with_black, with_both):
        assert ignore_colour(label_space) not in label_space.colours


@pytest.mark.parametrize("wrong", [3, 254, -1])
def test_an_id_without_a_class_is_named(wrong: int) -> None:
    with pytest.raises(ValueError, match=rf"train id {wrong}, but 3 classes"):
        colour_labels(torch.tensor([[0, wrong]]), THREE)


def test_pixels_are_rounded_and_clipped_in_any_precision() -> None:
    image = torch.tensor([0.0, 0.5, 1.0, 1.2, -0.1]).view(1, 1, 5).expand(3, 1, 5)
    assert to_pixels(image)[0, :, 0].tolist() == [0, 128, 255, 255, 0]
    assert to_pixels(image.bfloat16())[0, :, 0].tolist() == [0, 128, 255, 255, 0]


def test_an_overlay_lies_between_image_and_labels() -> None:
    row = draw_row((20, 30))
    image, painted = to_pixels(row.image), colour_labels(row.labels, THREE)
    labelled = row.labels.numpy() != 255
    assert np.array_equal(overlay(row.image, row.labels, THREE, 0.0), image)
    full, half = overlay(row.image, row.labels, THREE, 1.0), overlay(row.image, row.labels, THREE, 0.5)
    assert np.array_equal(full[labelled], painted[labelled])
    assert np.array_equal(full[~labelled], image[~labelled])
    middle = (image[labelled].astype(int) + painted[labelled]) / 2
    assert np.abs(half[labelled] - middle).max() <= 0.5


def test_an_overlay_refuses_what_cannot_be_laid_over() -> None:
    row = draw_row((20, 30))
    with pytest.raises(ValueError, match=r"got 1\.5; mend opacity"):
        overlay(row.image, row.labels, THREE, 1.5)
    with pytest.raises(ValueError, match=r"\(20, 30\) and \(20, 29\)"):
        overlay(row.image, row.labels[:, :-1], THREE)


def test_the_pictures_stand_side_by_side_in_the_way_of_the_data() -> None:
    row = draw_row((192, 256))
    assert row.maskige is not None
    assert row.decoded_maskige is not None
    panel = draw_panel([row], THREE, PALETTE)
    pictures = [
        to_pixels(row.image),
        colour_labels(row.labels, THREE),
        to_pixels(row.maskige),
        to_pixels(row.decoded_maskige),
        colour_labels(row.predicted_labels, THREE),
        error_map(row.image, row.labels, row.predicted_labels),
    ]
    places = [find(panel, picture) for picture in pictures]
    tops, lefts = zip(*[place for place in places if place is not None], strict=True)
    assert len(set(tops)) == 1
    assert len(lefts) == len(pictures)
    assert min(np.diff(lefts)) > 256  # in this order, with a gap between neighbours


def test_the_pixel_twin_has_no_maskige_columns() -> None:
    rows = [draw_row((192, 256), seed=seed, twin=True) for seed in range(2)]
    twin = draw_panel(rows, THREE, None)
    full = draw_panel([draw_row((192, 256))], THREE, PALETTE)
    column = full.width - draw_panel([draw_row((192, 256), twin=True)], THREE, None).width
    assert column % 2 == 0  # two columns fewer, of the same width
    assert column // 2 > 256
    for row in rows:
        assert find(twin, colour_labels(row.predicted_labels, THREE)) is not None


def test_what_a_row_does_not_know_is_left_out_and_what_it_does_is_said() -> None:
    row = draw_row((192, 256))
    bare = dataclasses.replace(row, class_probs=None)
    full, less = draw_panel([row], THREE, PALETTE), draw_panel([bare], THREE, PALETTE)
    assert full.width - less.width > 256  # the column of uncertainty
    assert full.height - less.height > 20  # and its line in the legend
    scored = [dataclasses.replace(bare, miou=miou) for miou in (0.25, 0.26)]
    assert len({draw_panel([one], THREE, PALETTE).tobytes() for one in (bare, *scored)}) == 3


def test_small_pictures_grow_by_whole_factors() -> None:
    row = draw_row((32, 32))
    enlarged = colour_labels(row.labels, THREE).repeat(8, axis=0).repeat(8, axis=1)
    assert find(draw_panel([row], THREE, PALETTE), enlarged) is not None


def test_shrinking_never_mixes_class_colours() -> None:
    row = draw_row((300, 900), twin=True)
    panel = np.asarray(draw_panel([row], THREE, None, cell_width=300))
    colours = np.array([*THREE.colours, (0, 0, 0)])
    pure = (panel[:, :, None] == colours).all(-1).any(-1)  # neither paper nor blends
    summed = np.pad(pure.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    blocks = summed[100:, 300:] - summed[:-100, 300:] - summed[100:, :-300] + summed[:-100, :-300]
    assert np.count_nonzero(blocks == 100 * 300) == 2  # labels and predicted labels, a third of their size


def test_the_legend_lists_the_classes_that_occur() -> None:
    row = draw_row((192, 256))
    row.labels[row.labels == 2] = 0
    row.predicted_labels[row.predicted_labels == 2] = 1
    panel = draw_panel([row], THREE, PALETTE)
    place = find(panel, to_pixels(row.image))
    assert place is not None
    legend = np.asarray(panel)[place[0] + 193 :]
    painted = [tuple(round(255 * c) for c in colour) for colour in PALETTE.tolist()]
    for k, occurs in enumerate((True, True, False)):
        assert (count(legend, THREE.colours[k]) > 0) is occurs
        assert (count(legend, painted[k]) > 0) is occurs
    assert count(legend, WRONG) > 0
    assert count(legend, IGNORED) > 0


@pytest.mark.parametrize("cell_width", [128, 256])
@pytest.mark.parametrize("size", [(32, 32), (16, 640), (640, 16), (100, 333), (256, 512)])
@pytest.mark.parametrize("num_classes", [2, 150])
def test_nothing_spills_into_the_margin(cell_width: int, size: tuple[int, int], num_classes: int) -> None:
    names = [f"a class with quite a long name, number {k}" if k % 9 == 0 else f"class {k}" for k in range(num_classes)]
    label_space = LabelSpace.from_names(names)
    rows = [draw_row(size, label_space, seed, twin=True, name="name/" * 60) for seed in range(2)]
    panel = np.asarray(draw_panel(rows, label_space, None, cell_width))
    margin = 12
    inner = panel[margin:-margin, margin:-margin]
    assert (panel != 255).any()
    assert np.count_nonzero(panel != 255) == np.count_nonzero(inner != 255)
    assert panel.shape[1] < 7 * 1.8 * cell_width + 400


def test_a_panel_is_drawn_the_same_twice() -> None:
    rows = [draw_row((48, 64), seed=seed) for seed in range(2)]
    assert draw_panel(rows, THREE, PALETTE).tobytes() == draw_panel(rows, THREE, PALETTE).tobytes()


def test_drawing_leaves_the_tensors_as_they_are() -> None:
    row, same = draw_row((24, 24)), draw_row((24, 24))
    draw_panel([row], THREE, PALETTE)
    assert torch.equal(row.labels, same.labels)
    assert torch.equal(row.image, same.image)


def test_an_empty_panel_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0"):
        draw_panel([], THREE, None)
