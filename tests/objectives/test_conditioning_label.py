"""The label loss against its definition in numpy, and its gradient against differences of the loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gss.assembly.build import build_inverse
from gss.maskige.inverse import NearestColour, SoftDistance
from gss.maskige.palette import max_distance_palette
from gss.maskige.transform import MaskigeTransform
from gss.networks.token_scores import TokenScores
from gss.objectives.conditioning import check_passes_gradients, label_loss
from gss.pipeline import MaskigeAutoencoder
from gss.tokenizer.patches import PatchDictionary
from gss.tokenizer.patches_context import ContextDictionary
from gss.tokenizer.vqvae import VQVAE

PALETTE = max_distance_palette(5)
TRANSFORM = MaskigeTransform(PALETTE)


@pytest.fixture(scope="module")
def labels(draw_labels):
    """Labels of a size that no cell divides."""
    return draw_labels(2, (15, 23), 5, seed=3, ignored=True)


@pytest.fixture(scope="module")
def autoencoders(draw_labels):
    """A dictionary that knows classes, and a VQ-VAE whose colours are read by a learned inverse, at twice the size."""
    torch.manual_seed(0)
    painted = TRANSFORM.paint(draw_labels(6, (32, 48), 5))
    patches = PatchDictionary(stride=8, vocab_size=12)
    patches.fit([painted], PALETTE.colours, PALETTE.ignore_colour)
    vqvae = VQVAE(stride=8, vocab_size=12, hidden=8, num_blocks=0, quantizer="fsq")
    for name, weight in vqvae.decoder.named_parameters():
        weight.data *= 4 if name.endswith("weight") else 1  # so that codes make a difference before any training
    inverse = build_inverse("shifted_window", 5, 20000.0, channels=8)
    inverse.correction.output.weight.data.normal_()
    made = {
        "patches": MaskigeAutoencoder(TRANSFORM, patches, SoftDistance()),
        "vqvae": MaskigeAutoencoder(TRANSFORM, vqvae, inverse, scale=2, native_probs=False),
    }
    return {name: autoencoder.requires_grad_(False).eval() for name, autoencoder in made.items()}


def scores(autoencoder, seed=0):
    """A head's scores of the labels' cells, by weights that want gradients."""
    generator = torch.Generator().manual_seed(seed)
    grid = (-(-15 // autoencoder.stride), -(-23 // autoencoder.stride))
    features = torch.randn(2, *grid, 6, generator=generator)
    weight = torch.randn(12, 6, generator=generator).requires_grad_()
    return TokenScores(features, weight, torch.zeros(12))


def loss_of(autoencoder, prior, labels, class_weights=None):
    return label_loss(autoencoder, autoencoder.decode_scores(prior, "expected"), labels, class_weights)


@pytest.mark.parametrize("name", ["patches", "vqvae"])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_cross_entropy_of_what_the_expected_decoding_shows(autoencoders, labels, name, weighted):
    autoencoder, weights = autoencoders[name], torch.tensor([0.5, 1.0, 2.0, 0.3, 1.2])
    prior = scores(autoencoder)
    token_probs = prior.logits().softmax(1)
    decoded = autoencoder.read(autoencoder.tokenizer.decode_expected(token_probs), (15, 23))
    class_probs = decoded.class_probs().detach().double().numpy()
    each = [
        -np.log(class_probs[picture, labels[picture, y, x], y, x] + 1e-12)
        * (weights[labels[picture, y, x]].item() if weighted else 1)
        for picture, y, x in np.argwhere(labels.numpy() != 255)
    ]
    found = loss_of(autoencoder, prior, labels, weights if weighted else None)
    assert found.item() == pytest.approx(np.mean(each), rel=1e-4)


@pytest.mark.parametrize("name", ["patches", "vqvae"])
def test_its_gradient_reaches_the_head_and_is_its_slope(autoencoders, labels, name):
    autoencoder = autoencoders[name]
    prior = scores(autoencoder)
    (gradient,) = torch.autograd.grad(loss_of(autoencoder, prior, labels), prior.weight)
    length = gradient.norm().item()
    step = 0.01 * gradient / length
    with torch.no_grad():
        ahead, behind = (
            loss_of(autoencoder, TokenScores(prior.features, prior.weight + way, prior.bias), labels)
            for way in (step, -step)
        )
    assert length > 1e-3
    assert ((ahead - behind) / 0.02).item() == pytest.approx(length, rel=0.05)


@pytest.mark.parametrize("name", ["patches", "vqvae"])
def test_it_falls_when_the_head_follows_it(autoencoders, labels, name):
    autoencoder, prior = autoencoders[name], scores(autoencoders[name])
    optimizer = torch.optim.Adam([prior.weight], lr=0.1)
    losses = []
    for _ in range(15):
        losses.append(loss_of(autoencoder, prior, labels))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1].item() < losses[0].item() - 0.03


def test_an_inverse_that_learns_is_asked_and_not_taught(autoencoders, labels):
    autoencoder = autoencoders["vqvae"]
    inverse, prior = autoencoder.inverse, scores(autoencoder)
    before = {name: tensor.clone() for name, tensor in inverse.state_dict().items()}
    frozen = loss_of(autoencoder, prior, labels)
    inverse.requires_grad_(True).train()
    try:
        loss = loss_of(autoencoder, prior, labels)
        loss.backward()
        assert loss.equal(frozen)
        assert all(weight.grad is None and weight.requires_grad for weight in inverse.parameters())
        assert all(module.training for module in inverse.modules())
        assert all(tensor.equal(before[name]) for name, tensor in inverse.state_dict().items())
    finally:
        inverse.requires_grad_(False).eval()


def test_labels_without_pixels_cost_nothing(autoencoders):
    autoencoder, prior = autoencoders["patches"], scores(autoencoders["patches"])
    loss = loss_of(autoencoder, prior, torch.full((2, 15, 23), 255))
    loss.backward()
    assert loss.item() == 0
    assert not prior.weight.grad.any()


def test_a_class_that_no_token_shows_costs_much_and_not_everything(draw_labels):
    four = TRANSFORM.paint(draw_labels(6, (32, 48), 4))
    patches = PatchDictionary(stride=8, vocab_size=12)
    patches.fit([four], PALETTE.colours, PALETTE.ignore_colour)
    autoencoder = MaskigeAutoencoder(TRANSFORM, patches, SoftDistance())
    prior = scores(autoencoder)
    loss = loss_of(autoencoder, prior, torch.full((2, 15, 23), 4))
    loss.backward()
    assert loss.item() == pytest.approx(12 * np.log(10), rel=0.01)
    assert prior.weight.grad.isfinite().all()


def test_decodings_that_pass_gradients_pass(autoencoders):
    for autoencoder in autoencoders.values():
        with torch.no_grad():
            check_passes_gradients(autoencoder)


def test_decodings_that_pass_none_are_refused(autoencoders, draw_labels):
    context = ContextDictionary(stride=8, vocab_size=12)
    context.fit([TRANSFORM.paint(draw_labels(6, (32, 48), 5))], PALETTE.colours, PALETTE.ignore_colour)
    context.requires_grad_(False)
    of_colours = MaskigeAutoencoder(TRANSFORM, context, SoftDistance(), native_probs=False)
    nearest = MaskigeAutoencoder(TRANSFORM, autoencoders["vqvae"].tokenizer, NearestColour())
    for autoencoder in (of_colours, nearest):
        with pytest.raises(ValueError, match=r"stage\.label_weight needs .*soft_distance.*native_probs=true.*=0"):
            check_passes_gradients(autoencoder)
    check_passes_gradients(MaskigeAutoencoder(TRANSFORM, context, SoftDistance()))
