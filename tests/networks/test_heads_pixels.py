from __future__ import annotations

import pytest
import torch

from gss.networks.heads import BilinearPixelHead, PyramidPixelHead, SubpixelHead

LEVELS = (4, 6)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pyramid():
    """Two levels, the second half as fine."""
    return [draw(2, 4, 8, 12), draw(2, 6, 4, 6, seed=1)]


HEADS = {
    "bilinear": lambda: BilinearPixelHead(5, 3, 4),
    "subpixel": lambda: SubpixelHead(5, 3, 4),
    "pyramid": lambda: PyramidPixelHead(LEVELS, 7, 3, 4),
}


@pytest.mark.parametrize("name", HEADS)
def test_every_head_scores_every_class_of_every_pixel(name):
    head = HEADS[name]()
    assert head.enlarge(head(draw(2, 5, 4, 6), pyramid())).shape == (2, 3, 16, 24)


def test_the_subpixel_head_shuffles_channels_into_pixels():
    head = HEADS["subpixel"]()
    channels = head(draw(2, 5, 2, 3), [])
    pixels = head.enlarge(channels)
    assert pixels.shape == (2, 3, 8, 12)
    for k in range(3):
        for y in range(4):
            for x in range(4):
                assert pixels[:, k, y::4, x::4].equal(channels[:, 16 * k + 4 * y + x])


def test_the_bilinear_head_interpolates_class_scores():
    head = HEADS["bilinear"]()
    scores = head(draw(2, 5, 2, 3), [])
    expected = torch.nn.functional.interpolate(scores, size=(8, 12), mode="bilinear")
    torch.testing.assert_close(head.enlarge(scores), expected)


def test_the_pyramid_head_is_the_released_one_layer_by_layer():
    """1x1 convolution, BatchNorm and ReLU of each level; resized, concatenated; the same once more; 1x1 to K."""
    head = HEADS["pyramid"]().eval()
    state = head.state_dict()

    def layer(features, name):
        mixed = torch.einsum("dc,bchw->bdhw", state[f"{name}.0.weight"][:, :, 0, 0], features)
        scale = state[f"{name}.1.weight"] / (state[f"{name}.1.running_var"] + 1e-5).sqrt()
        shift = state[f"{name}.1.bias"] - state[f"{name}.1.running_mean"] * scale
        return (mixed * scale[:, None, None] + shift[:, None, None]).clamp(min=0)

    fine, coarse = (layer(level, f"fusion.levels.{number}") for number, level in enumerate(pyramid()))
    coarse = torch.nn.functional.interpolate(coarse, size=(8, 12), mode="bilinear")
    fused = layer(torch.cat([fine, coarse], dim=1), "fusion.fuse")
    expected = torch.einsum("kc,bchw->bkhw", state["scores.weight"][:, :, 0, 0], fused)
    with torch.no_grad():
        scores = head(torch.empty(2, 5, 8, 12), pyramid())  # of the fused map the grid alone counts
    torch.testing.assert_close(scores, expected + state["scores.bias"][:, None, None], rtol=1e-4, atol=1e-5)
