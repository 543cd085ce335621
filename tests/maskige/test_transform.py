from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from gss.labels import LabelSpace
from gss.maskige.palette import PALETTES, Palette, max_distance_palette, random_palette
from gss.maskige.transform import MaskigeTransform


def random_labels(num_classes, seed=0):
    """Labels that hold every class and ignored pixels."""
    choices = np.array([*range(num_classes), 255])
    labels = np.random.default_rng(seed).choice(choices, (2, 24, 32))
    labels.flat[: len(choices)] = choices
    return torch.from_numpy(labels)


@pytest.mark.parametrize("name", PALETTES)
@pytest.mark.parametrize("num_classes", [2, 11, 19, 150, 194])
def test_labels_survive_painting_exactly_ignored_pixels_included(name, num_classes):
    colours = [(7 * k % 256, 255 - k, k + 1) for k in range(num_classes)]  # of the palette `dataset`
    label_space = LabelSpace.from_names([f"class {k}" for k in range(num_classes)], colours)
    transform = MaskigeTransform(PALETTES[name](label_space, 0), learned=name == "learned")
    labels = random_labels(num_classes)
    painted = transform.paint(labels)
    assert painted.shape == (2, 3, 24, 32)
    assert painted.dtype == torch.float32
    assert transform.unpaint(painted).equal(labels)


def broadcast_argmin(maskige, colours):
    """The published form, all differences at once, in whole numbers; and whether one colour is clearly nearest."""
    pixels = (maskige.double() * 255).round().clamp(0, 255)
    whole = (colours.double() * 255).round()
    distances = (pixels[:, None] - whole[None, :, :, None, None]).square().sum(2)
    nearest = distances.topk(min(2, len(colours)), dim=1, largest=False).values
    return distances.argmin(1), nearest[:, 0] < nearest[:, -1]


@pytest.mark.parametrize(
    ("choose", "num_colours"),
    [(max_distance_palette, 2), (max_distance_palette, 19), (max_distance_palette, 150), (random_palette, 300)],
)
def test_labels_are_read_as_the_argmin_of_the_broadcast_form(choose, num_colours):
    palette = choose(num_colours)
    generator = torch.Generator().manual_seed(0)
    painted = palette.colours[torch.randint(num_colours, (2, 40, 40), generator=generator)].movedim(-1, 1)
    noisy = painted + 0.3 * torch.randn(painted.shape, generator=generator)  # leaves [0, 1] too
    expected, clear = broadcast_argmin(noisy, palette.colours)
    found = MaskigeTransform(palette).unpaint(noisy, with_ignore=False)
    assert found.dtype == torch.int64
    assert clear.float().mean() > 0.9
    assert found[clear].equal(expected[clear])


def test_every_part_of_the_colour_cube_is_answered():
    palette = max_distance_palette(40)
    anywhere = torch.rand(1, 3, 350, 350, generator=torch.Generator().manual_seed(1))  # more than are read at once
    expected, clear = broadcast_argmin(anywhere, palette.colours)
    assert MaskigeTransform(palette).unpaint(anywhere, with_ignore=False)[clear].equal(expected[clear])


def test_of_equally_near_colours_the_first_is_taken():
    colours = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    reddish = torch.tensor([0.8, 0.1, 0.1])[None, :, None, None]
    transform = MaskigeTransform(Palette(colours, torch.ones(3)))
    assert transform.unpaint(reddish).tolist() == [[[1]]]


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


def one_hot(labels, num_classes):
    return torch.nn.functional.one_hot(labels, num_classes).movedim(-1, 1).float()


def test_one_hot_labels_are_painted_as_labels_are():
    transform = MaskigeTransform(max_distance_palette(19))
    labels = random_labels(19).clamp(max=18)
    torch.testing.assert_close(transform.paint_probs(one_hot(labels, 19)), transform.paint(labels), rtol=0, atol=0)


def test_graded_labels_are_painted_in_the_mean_colour():
    palette = Palette(torch.tensor([[1.0, 0.0, 0.5], [0.0, 0.5, 0.5]]), torch.zeros(3))
    class_probs = torch.tensor([0.25, 0.75]).view(1, 2, 1, 1)
    assert MaskigeTransform(palette).paint_probs(class_probs).flatten().tolist() == [0.25, 0.375, 0.5]


def test_gradients_reach_learned_colours_by_both_ways_of_painting():
    """d sum(maskige * pull) / d colour_k is the sum of `pull` over the pixels of class k, in closed form."""
    labels = random_labels(5).clamp(max=4)
    pull = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([(pull * (labels == k)[:, None]).sum((0, 2, 3)) for k in range(5)])
    for paint in (lambda x: x.paint(labels), lambda x: x.paint_probs(one_hot(labels, 5))):
        transform = MaskigeTransform(max_distance_palette(5), learned=True)
        (paint(transform) * pull).sum().backward()
        torch.testing.assert_close(transform.colours.grad, expected, rtol=1e-4, atol=1e-4)


def test_only_learned_colours_are_a_parameter_and_files_do_not_tell():
    fixed, learned = (MaskigeTransform(max_distance_palette(5), learned=flag) for flag in (False, True))
    assert [name for name, _ in learned.named_parameters()] == ["colours"]
    assert not list(fixed.parameters())
    with torch.no_grad():
        learned.colours.mul_(0.5)
    fixed.load_state_dict(learned.state_dict())
    assert fixed.colours.equal(learned.colours)


def test_colours_that_move_are_read_where_they_are():
    transform, labels = MaskigeTransform(max_distance_palette(5), learned=True), random_labels(5)
    assert transform.unpaint(transform.paint(labels)).equal(labels)
    with torch.no_grad():
        transform.colours.copy_(1 - transform.colours.roll(1, 0) * 0.9)
    assert transform.unpaint(transform.paint(labels)).equal(labels)


def test_learned_colours_stay_in_the_cube_and_settle_on_whole_values():
    transform = MaskigeTransform(Palette(torch.tensor([[1.4, -0.2, 0.5], [0.1, 0.2, 0.31]]), torch.zeros(3)), True)
    transform.clamp_colours()
    assert transform.colours[0].tolist() == [1, 0, 0.5]
    transform.settle_colours()
    np.testing.assert_allclose(transform.colours.detach() * 255, [[255, 0, 128], [26, 51, 79]], atol=1e-4)
    assert transform.palette.colours.equal(transform.colours.detach())


def test_learned_colours_that_became_one_are_refused():
    transform = MaskigeTransform(Palette(torch.tensor([[0.5, 0.5, 0.5], [0.5001, 0.5, 0.5]]), torch.zeros(3)), True)
    with pytest.raises(ValueError, match=r"classes 0 and 1 the same colour \(128, 128, 128\)"):
        transform.settle_colours()
