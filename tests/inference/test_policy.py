"""One object says how images are shown; what comes back has the image's size and is a distribution."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
import yaml
from torch.nn.functional import interpolate

from gss.cli.configuration import config_dir
from gss.inference import Inference, build_inference
from gss.inference.policy import resized
from segment_stubs import by_place, drawn, pixelwise

TRAINED, STRIDE = (32, 48), 8
POLICIES = {
    "trained": {},
    "native": {"scale": "native"},
    "short_side": {"scale": "short_side", "short_side": 24, "long_side": 60},
    "window": {"name": "window", "scale": "native", "window": (16, 20), "step": (12, 13)},
    "hann": {
        "name": "window",
        "scale": "short_side",
        "short_side": 30,
        "window": (16, 20),
        "step": (9, 9),
        "blend": "hann",
    },
    "flip": {"flip": True},
    "scales": {"scales": (0.5, 1.0, 1.75), "flip": True},
    "all": {
        "name": "window",
        "scale": "native",
        "window": (16, 20),
        "step": (12, 13),
        "scales": (0.75, 1.5),
        "flip": True,
    },
}


def policy(**settings):
    return Inference(TRAINED, STRIDE, **settings)


@pytest.mark.parametrize("size", [(32, 48), (51, 77), (90, 7), (1, 1), (1, 40), (16, 21), (17, 20)])
@pytest.mark.parametrize("settings", POLICIES.values(), ids=POLICIES)
def test_every_image_gets_a_distribution_at_its_own_size(settings, size):
    image = torch.cat([drawn(*size), drawn(*size, seed=1)])
    inference = policy(**settings)
    found = inference(by_place, image)
    assert found.keys() == {"expected", "pixel"}
    for readout, class_probs in found.items():
        assert class_probs.shape == (2, 3, *size)
        assert class_probs.dtype == torch.float32
        assert class_probs.min() >= 0
        torch.testing.assert_close(class_probs.sum(1), torch.ones(2, *size))
        assert inference.labels(by_place, image)[readout].equal(class_probs.argmax(1))


def test_whole_at_the_trained_scale_is_one_pass_over_the_resized_image():
    image, seen = drawn(51, 77), []

    def segment(shown):
        seen.append(shown)
        return by_place(shown)

    found = policy()(segment, image)["pixel"]
    (shown,) = seen
    assert shown.equal(resized(image, (32, 48)))
    expected = interpolate(dict(by_place(shown))["pixel"], size=(51, 77), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"scale": "native"}, {"scale": "short_side", "short_side": 32}])
def test_an_image_of_the_size_that_is_wanted_is_shown_and_answered_bit_for_bit(settings):
    image = drawn(*TRAINED)
    assert policy(**settings)(by_place, image)["expected"].equal(dict(by_place(image))["expected"])


def test_one_pass_of_the_network_serves_every_readout():
    passes = []

    def segment(shown):
        passes.append(shown.shape[0])
        yield from by_place(shown)

    policy(**POLICIES["window"], window_batch=3).labels(segment, drawn(40, 60))
    assert passes == [3, 2] * 3  # three rows of five windows


def test_scale_one_changes_nothing():
    image = drawn(51, 77)
    assert policy(scales=(1.0,))(by_place, image)["pixel"].equal(policy()(by_place, image)["pixel"])


def test_views_at_several_scales_are_averaged_at_the_images_size():
    image = drawn(40, 60)
    views = [
        interpolate(
            dict(by_place(resized(image, (int(40 * factor), int(60 * factor)))))["expected"],
            size=(40, 60),
            mode="bilinear",
            align_corners=False,
        )
        for factor in (0.5, 1.0, 1.5)
    ]
    found = policy(scale="native", scales=(0.5, 1.0, 1.5))(by_place, image)["expected"]
    torch.testing.assert_close(found, torch.stack(views).mean(0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("settings", [{}, POLICIES["native"], POLICIES["window"]], ids=["trained", "native", "window"])
def test_mirroring_changes_nothing_for_a_network_that_is_symmetric(settings):
    image = drawn(45, 64)
    (plain,) = policy(**settings)(pixelwise, image).values()
    (both,) = policy(**settings, flip=True)(pixelwise, image).values()
    torch.testing.assert_close(both, plain, rtol=0, atol=1e-6)


def test_mirrored_views_are_mirrored_back_and_count_half():
    def lopsided(shown):
        slope = torch.linspace(0, 1, shown.shape[-1]).expand(shown.shape[0], *shown.shape[-2:])
        yield "expected", torch.stack([slope, 1 - slope], 1)

    image = drawn(*TRAINED)
    (found,) = policy(flip=True)(lopsided, image).values()
    torch.testing.assert_close(found, torch.full_like(found, 0.5))
    (once,) = policy(flip=True)(by_place_lopsided, image).values()
    (there,) = policy()(by_place_lopsided, image).values()
    (back,) = policy()(by_place_lopsided, image.flip(-1)).values()
    torch.testing.assert_close(once, (there + back.flip(-1)) / 2)


def by_place_lopsided(shown):
    """class_probs (N, 3, h, w) that depend on the column."""
    slope = torch.linspace(-2, 2, shown.shape[-1])
    yield "expected", torch.stack([shown[:, 0] + slope, shown[:, 1], shown[:, 2]], 1).softmax(1)


def test_with_flips_the_answer_to_the_mirror_image_is_the_mirror_image_of_the_answer():
    image = drawn(*TRAINED)
    (found,) = policy(flip=True)(by_place_lopsided, image).values()
    (mirrored,) = policy(flip=True)(by_place_lopsided, image.flip(-1)).values()
    torch.testing.assert_close(mirrored, found.flip(-1))


@pytest.mark.parametrize("settings", [{}, POLICIES["short_side"], POLICIES["all"]], ids=["trained", "short", "all"])
def test_the_ceiling_goes_through_the_size_that_the_network_sees(settings):
    labels = torch.randint(3, (1, 51, 77), generator=torch.Generator().manual_seed(0))
    inference, seen = policy(**settings), []

    def reconstruct(shown):
        seen.append(tuple(shown.shape[1:]))
        return torch.nn.functional.one_hot(shown, 3).movedim(-1, 1).float()

    found = inference.reconstructed(reconstruct, labels)
    if inference.name == "window":
        assert set(seen) == {(16, 20)}
        assert found.equal(labels)
        return
    size = inference.size(51, 77)
    assert seen == [size]
    one_hot = torch.nn.functional.one_hot(resized(labels, size), 3).movedim(-1, 1).float()
    expected = interpolate(one_hot, size=(51, 77), mode="bilinear", align_corners=False)
    sure = expected.max(1).values > 0.501  # ties may fall either way
    assert found[sure].equal(expected.argmax(1)[sure])


def test_a_glance_is_what_the_network_sees_at_once():
    image = drawn(40, 60)
    assert policy().glance(image).equal(resized(image, (32, 48)))
    assert policy(scales=(2.0,)).glance(image).shape[-2:] == (64, 96)
    window = policy(name="window", scale="native", window=(16, 100), step=(8, 8))
    assert window.glance(image).equal(image[..., 12:28, :])
    assert window.glance(image[:, 0].long()).shape == (1, 16, 60)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, True),
        ({"scales": (0.5,)}, True),
        ({"flip": True}, False),
        ({"scales": (1.0, 2.0)}, False),
        ({"name": "window"}, False),
    ],
)
def test_the_network_sees_a_whole_image_once_or_not(settings, expected):
    assert policy(**settings).sees_whole is expected


def test_the_defaults_are_those_of_the_configuration():
    settings = yaml.safe_load((config_dir() / "inference" / "whole.yaml").read_text())
    assert build_inference(settings, TRAINED, STRIDE) == policy() == build_inference(None, TRAINED, STRIDE)
    assert list(settings) == [field.name for field in fields(Inference)][2:]


def test_a_setting_that_is_null_stays_at_its_default():
    own = yaml.safe_load((config_dir() / "inference" / "own.yaml").read_text())
    assert own == dict.fromkeys([field.name for field in fields(Inference)][2:])
    assert build_inference(own, TRAINED, STRIDE) == policy()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "tiles"}, r"unknown inference\.name='tiles': one of whole, window"),
        ({"scale": "huge"}, r"unknown inference\.scale='huge': one of trained, native, short_side"),
        ({"blend": "linear"}, r"unknown inference\.blend='linear': one of uniform, hann, gaussian"),
        ({"window": [768]}, r"inference\.window needs two whole numbers above 0 \(height, width\), got \(768,\)"),
        ({"window": 768}, r"inference\.window needs two whole numbers above 0 \(height, width\), got 768"),
        ({"step": [0, 512]}, r"inference\.step needs two whole numbers above 0 \(height, width\), got \(0, 512\)"),
        ({"step": [512, 769]}, r"inference\.step=\[512, 769\] leaves pixels between windows of .*window=\[768, 768\]"),
        ({"short_side": 0}, r"inference\.short_side needs a whole number above 0, got 0"),
        ({"window_batch": 1.5}, r"inference\.window_batch needs a whole number above 0, got 1\.5"),
        ({"scales": []}, r"inference\.scales needs numbers above 0, got \(\)"),
        ({"scales": [1.0, -1]}, r"inference\.scales needs numbers above 0, got \(1\.0, -1\)"),
        ({"scales": 2.0}, r"inference\.scales needs numbers above 0, got 2\.0"),
        ({"overlap": 0.5}, r"there is no inference\.overlap; there are: name, scale, short_side"),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_value(settings, message):
    with pytest.raises(ValueError, match=message):
        build_inference(settings, TRAINED, STRIDE)
