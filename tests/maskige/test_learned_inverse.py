from __future__ import annotations

import pytest
import torch

from gss.assembly.build import INVERSES, build_inverse
from gss.maskige.inverse import SoftDistance
from gss.maskige.palette import max_distance_palette

LEARNED = {"cnn": {"hidden": 8}, "shifted_window": {"channels": 16, "depth": 2}}


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def parameters_of(inverse):
    return sum(parameter.numel() for parameter in inverse.parameters())


@pytest.mark.parametrize("name", INVERSES)
@pytest.mark.parametrize("size", [(16, 16), (5, 23), (1, 1)])
def test_every_inverse_gives_class_probabilities_at_any_size(name, size):
    inverse = build_inverse(name, 6, **LEARNED.get(name, {})).eval()
    class_probs = inverse(draw(2, 3, *size), draw(6, 3, seed=1))
    assert class_probs.shape == (2, 6, *size)
    assert class_probs.dtype == torch.float32
    torch.testing.assert_close(class_probs.sum(1), torch.ones(2, *size))
    assert inverse.trainable == (name in LEARNED)


@pytest.mark.parametrize("name", LEARNED)
def test_an_untrained_correction_corrects_nothing(name):
    maskige, colours = draw(2, 3, 20, 24), draw(6, 3, seed=1)
    inverse = build_inverse(name, 6, temperature=400, **LEARNED[name])
    assert inverse(maskige, colours).equal(SoftDistance(400)(maskige, colours))


@pytest.mark.parametrize("name", LEARNED)
def test_every_weight_of_a_correction_is_reached_once_the_last_layer_has_moved(name):
    inverse, maskige, colours = build_inverse(name, 6, **LEARNED[name]), draw(1, 3, 16, 16), draw(6, 3, seed=1)
    labels = torch.randint(6, (1, 16, 16), generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.SGD(inverse.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(inverse.class_scores(maskige, colours), labels).backward()
        optimizer.step()
    assert [name for name, parameter in inverse.named_parameters() if not parameter.grad.any()] == []


@pytest.mark.parametrize(("num_classes", "depth", "published"), [(19, 1, 136_503), (150, 2, 286_558)])
def test_the_window_inverse_has_the_released_number_of_parameters(num_classes, depth, published):
    """Derived from the released layers; the published counts are those of Cityscapes and ADE20K."""
    width, ffn, heads, window = 128, 256, 4, 7
    entrance = 3 * width + 2 * width  # 1x1 convolution without bias, batch norm
    attention = 3 * width * (width + 1) + width * (width + 1) + heads * (2 * window - 1) ** 2
    block = 2 * width + attention + 2 * width + ffn * (width + 1) + width * (ffn + 1)  # with two layer norms
    derived = entrance + depth * block + 2 * width + num_classes * (width + 1)
    inverse = build_inverse("shifted_window", num_classes, depth=depth)
    assert parameters_of(inverse) == derived == published


def test_the_cnn_has_three_convolutions():
    """9 weights per pair of channels and a bias: 3 -> 8 -> 8 -> 6."""
    expected = 8 * (3 * 9 + 1) + 8 * (8 * 9 + 1) + 6 * (8 * 9 + 1)
    assert parameters_of(build_inverse("cnn", 6, hidden=8)) == expected


def test_a_correction_in_mixed_precision_leaves_the_distances_alone():
    maskige, colours = draw(1, 3, 14, 14), max_distance_palette(6).colours
    with torch.autocast("cpu", torch.bfloat16):
        mixed = build_inverse("cnn", 6)(maskige, colours)
    assert mixed.dtype == torch.float32
    assert mixed.equal(SoftDistance()(maskige, colours))


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("fourier", {}, r"unknown maskige\.inverse\.name='fourier': one of nearest, .*, shifted_window"),
        ("nearest", {"hidden": 8}, r"maskige\.inverse\.hidden is no setting of .*nearest \(there are none\)"),
        ("cnn", {"depth": 2}, r"maskige\.inverse\.depth is no setting of .*cnn \(those are hidden\): .* ~maskige"),
        ("shifted_window", {"channels": 30}, r"channels=30 must be a multiple of num_heads=4"),
        ("shifted_window", {"depth": 0}, r"maskige\.inverse\.depth=0 must be at least 1"),
        ("cnn", {"temperature": 0}, r"maskige\.temperature must be positive, got 0"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_sentence(name, settings, words):
    with pytest.raises(ValueError, match=words):
        build_inverse(name, 6, **settings)
