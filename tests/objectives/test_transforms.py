from __future__ import annotations

import numpy as np
import pytest
import torch

from gss.assembly.build import build_inverse
from gss.maskige.inverse import NearestColour, SoftDistance
from gss.maskige.palette import max_distance_palette
from gss.maskige.transform import MaskigeTransform
from gss.objectives.conditioning import reading_loss
from gss.objectives.transforms import check_learnable, jitter_colours, learns, reconstructed_maskige, straight_through
from gss.pipeline import MaskigeAutoencoder
from gss.tokenizer.patches import PatchDictionary
from gss.tokenizer.vqvae import VQVAE

PALETTE = max_distance_palette(5)


def made(learned=False, inverse=None, tokenizer=None, scale=1, native_probs=True):
    """An autoencoder of stride 4 around a frozen VQ-VAE whose codes have seen one batch."""
    torch.manual_seed(0)
    if tokenizer is None:
        tokenizer = VQVAE(stride=4, vocab_size=12, hidden=8, code_dim=4, num_blocks=0)
        tokenizer.reconstruct(torch.rand(4, 3, 16, 16))
    tokenizer.requires_grad_(False).eval()
    transform = MaskigeTransform(PALETTE, learned)
    return MaskigeAutoencoder(transform, tokenizer, inverse or SoftDistance(), scale, native_probs)


def test_straight_through_tokens_are_one_hot_forward_and_softmax_backward():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 7, 3, 4, generator=generator).double().requires_grad_()
    weights = torch.randn(2, 7, 3, 4, generator=generator).double()
    tokens = straight_through(logits, temperature=0.5)
    assert tokens.detach().argmax(1).equal(logits.argmax(1))
    likeliest = torch.nn.functional.one_hot(logits.argmax(1), 7).movedim(-1, 1)
    torch.testing.assert_close(tokens.detach(), likeliest.double())
    (tokens * weights).sum().backward()
    probs = np.exp(logits.detach().numpy() / 0.5)
    probs /= probs.sum(1, keepdims=True)
    expected = probs * (weights.numpy() - (probs * weights.numpy()).sum(1, keepdims=True)) / 0.5  # of softmax, by hand
    np.testing.assert_allclose(logits.grad, expected, atol=1e-12)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("scale", [1, 2])
def test_the_maskige_that_is_read_is_the_reconstruction(draw_labels, learned, scale):
    autoencoder, labels = made(learned, scale=scale), draw_labels(2, (18, 20), 5, ignored=True)
    maskige = reconstructed_maskige(autoencoder, labels)
    expected = autoencoder.decode(autoencoder.encode(labels)).maskige()
    torch.testing.assert_close(maskige, expected, atol=1e-5, rtol=0)
    assert maskige.requires_grad is learned


def test_colours_get_a_gradient_through_the_tokens_alone(draw_labels):
    """With a fixed reader: what is left is the way from the painted colours through the tokens."""
    autoencoder = made(learned=True)
    maskige = reconstructed_maskige(autoencoder, draw_labels(2, (16, 16), 5))
    maskige.square().mean().backward()
    assert autoencoder.transform.colours.grad.abs().sum(1).gt(0).all()
    assert all(parameter.grad is None for parameter in autoencoder.tokenizer.parameters())


def test_the_reading_loss_is_the_cross_entropy_of_labelled_pixels(draw_labels):
    autoencoder, labels = made(), draw_labels(2, (16, 16), 5, ignored=True)
    maskige = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    pixels, kept = maskige.movedim(1, -1).double().numpy() * 255, labels.numpy() != 255
    energy = ((pixels[kept][:, None] - PALETTE.colours.double().numpy() * 255) ** 2).sum(2) / 900
    true = np.take_along_axis(energy, labels.numpy()[kept][:, None], 1)[:, 0]
    expected = (true + np.logaddexp.reduce(-energy, axis=1)).mean()
    assert reading_loss(autoencoder, maskige, labels).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("scale", [1, 2])
def test_padding_and_rendering_do_not_change_what_a_perfect_maskige_costs(draw_labels, scale):
    autoencoder, labels = made(scale=scale), draw_labels(2, (13, 18), 5)
    assert reading_loss(autoencoder, autoencoder.paint(labels), labels).item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("learned", [False, True])
def test_labels_that_are_all_ignored_cost_nothing_and_move_nothing(learned):
    autoencoder = made(learned, build_inverse("cnn", 5, hidden=4))
    labels = torch.full((2, 16, 16), 255)
    loss = reading_loss(autoencoder, reconstructed_maskige(autoencoder, labels), labels)
    loss.backward()
    assert loss.item() == 0
    weights = [*autoencoder.inverse.parameters(), *([autoencoder.transform.colours] if learned else [])]
    assert [weight.grad.abs().sum().item() for weight in weights] == [0.0] * len(weights)


def test_jitter_stays_within_its_reach_and_no_nearest_colour_changes(draw_labels):
    half = PALETTE.min_distance() / 255 / 2
    labels = draw_labels(4, (32, 32), 5)
    maskige = MaskigeTransform(PALETTE).paint(labels)
    torch.manual_seed(0)
    moved = jitter_colours(maskige, 0.99 * half)
    length = (moved - maskige).square().sum(1).sqrt()
    assert 0.9 * half < length.max() < half
    assert NearestColour()(moved, PALETTE.colours).argmax(1).equal(labels)
    assert jitter_colours(maskige, 0) is maskige


def noisy_pictures(draw_labels, seed):
    """Label maps and their maskiges as a bad tokenizer would decode them: blurred, with noise of half the palette."""
    labels = draw_labels(4, (32, 32), 5, seed=seed)
    blurred = torch.nn.functional.avg_pool2d(MaskigeTransform(PALETTE).paint(labels), 3, 1, 1)
    noise = torch.randn(blurred.shape, generator=torch.Generator().manual_seed(seed))
    return labels, (blurred + 0.2 * noise).clamp(0, 1)


@pytest.mark.parametrize(("name", "settings"), [("cnn", {"hidden": 16}), ("shifted_window", {"channels": 16})])
def test_a_few_steps_read_unseen_noisy_maskiges_better_than_soft_distance(draw_labels, name, settings):
    torch.manual_seed(0)
    autoencoder = made(inverse=build_inverse(name, 5, **settings))
    labels, maskige = noisy_pictures(draw_labels, seed=1)
    before = reading_loss(autoencoder.eval(), maskige, labels).item()
    soft = reading_loss(made(), maskige, labels).item()
    assert before == soft  # untrained
    optimizer = torch.optim.AdamW(autoencoder.inverse.parameters(), lr=1e-2)
    for step in range(40):
        seen, shown = noisy_pictures(draw_labels, seed=100 + step)
        optimizer.zero_grad()
        autoencoder.inverse.train()
        reading_loss(autoencoder, shown, seen).backward()
        optimizer.step()
    assert reading_loss(autoencoder.eval(), maskige, labels).item() < 0.8 * soft


def test_what_learns_is_known():
    assert not learns(made())
    assert learns(made(learned=True))
    assert learns(made(inverse=build_inverse("cnn", 5)))


REFUSED = [
    ({"learned": True, "tokenizer": PatchDictionary(stride=4)}, r"palette=learned .*tokenizer=NAME .*tokenizer=vqvae"),
    ({"learned": True, "inverse": NearestColour()}, r"palette=learned .*inverse\.name=WORD .*choose soft_distance"),
    (
        {"inverse": build_inverse("cnn", 5), "tokenizer": PatchDictionary(stride=4)},
        r"inverse\.name=WORD would be trained and never asked.* set maskige\.native_probs=false",
    ),
]


@pytest.mark.parametrize(("parts", "words"), REFUSED)
def test_what_would_learn_nothing_is_refused_with_the_key_to_change(parts, words):
    with pytest.raises(ValueError, match=words):
        check_learnable(made(**parts), "NAME", "WORD")


def test_what_can_learn_passes():
    for parts in ({}, {"learned": True}, {"tokenizer": PatchDictionary(stride=4)}):
        check_learnable(made(**parts), "NAME", "WORD")
    read = {"inverse": build_inverse("cnn", 5), "tokenizer": PatchDictionary(stride=4), "native_probs": False}
    check_learnable(made(**read), "NAME", "WORD")
