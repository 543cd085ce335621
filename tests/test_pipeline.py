from __future__ import annotations

import numpy as np
import pytest
import torch

from gss.maskige.inverse import SoftDistance
from gss.maskige.palette import max_distance_palette
from gss.maskige.transform import MaskigeTransform
from gss.networks.backbone import TimmBackbone
from gss.networks.conditioning import ConditioningNetwork, ConditioningOutput
from gss.networks.fusion import MultiLevelAggregation
from gss.networks.heads import BilinearPixelHead, TiedTokenHead
from gss.networks.token_scores import TokenScores
from gss.pipeline import GenerativeSegmenter, MaskigeAutoencoder
from gss.tokenizer.base import Decoded
from gss.tokenizer.patches import PatchDictionary
from gss.tokenizer.vqvae import VQVAE

PALETTE = max_distance_palette(5)


@pytest.fixture
def autoencoders(draw_labels):
    """Both tokenizers, stride 4, behind one transform: fitted patches and an untrained VQ-VAE."""
    transform = MaskigeTransform(PALETTE)
    patches = PatchDictionary(stride=4, vocab_size=12)
    patches.fit([transform.paint(draw_labels(4, (32, 48), 5))], PALETTE.colours, PALETTE.ignore_colour)
    torch.manual_seed(0)
    vqvae = VQVAE(stride=4, vocab_size=12, hidden=8, code_dim=4, num_blocks=0).eval()
    return {
        name: MaskigeAutoencoder(transform, t, SoftDistance()) for name, t in zip(BOTH, (patches, vqvae), strict=True)
    }


BOTH = ("patches", "vqvae")


@pytest.mark.parametrize("name", BOTH)
def test_labels_pass_through_tokens_into_class_probabilities(autoencoders, draw_labels, name):
    generation = autoencoders[name].reconstruct(draw_labels(2, (32, 48), 5, seed=9, ignored=True))
    assert generation.class_probs().shape == (2, 5, 32, 48)
    torch.testing.assert_close(generation.class_probs().sum(1), torch.ones(2, 32, 48))
    assert generation.maskige().shape == (2, 3, 32, 48)
    assert generation.labels().equal(generation.class_probs().argmax(1))


def test_where_the_tokenizer_knows_only_colours_the_inverse_reads_them(autoencoders, draw_labels):
    autoencoder = autoencoders["vqvae"]
    generation = autoencoder.reconstruct(draw_labels(1, (16, 16), 5))
    assert generation.class_probs().equal(SoftDistance()(generation.maskige(), PALETTE.colours))


def test_codes_of_a_dictionary_are_what_it_holds(autoencoders):
    codes = autoencoders["patches"].code_class_probs()
    assert codes.equal(autoencoders["patches"].tokenizer.class_probs)


def test_codes_of_a_learned_tokenizer_are_what_it_decodes_in_a_constant_field(autoencoders):
    """In a constant field the borders of the picture are all that differs, and they lie within two cells here."""
    codes = autoencoders["vqvae"].code_class_probs()
    assert codes.shape == (12, 5, 4, 4)
    torch.testing.assert_close(codes.sum(1), torch.ones(12, 4, 4))
    field = torch.full((1, 9, 9), 7)
    wide = autoencoders["vqvae"].read(autoencoders["vqvae"].tokenizer.decode(field)).class_probs()
    torch.testing.assert_close(codes[7], wide[0, :, 16:20, 16:20], atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("size", [(30, 45), (32, 48), (3, 1)])
def test_labels_of_any_size_come_back_at_their_own_size(autoencoders, draw_labels, name, size):
    """Cells that reach beyond the picture are painted in the ignore colour there, and cut off after decoding."""
    autoencoder, (height, width) = autoencoders[name], size
    whole = draw_labels(1, (32, 48), 5, seed=2)[:, : -(-height // 4) * 4, : -(-width // 4) * 4]
    whole[:, height:] = whole[:, :, width:] = 255
    labels = whole[:, :height, :width]
    assert autoencoder.encode(labels).equal(autoencoder.encode(whole))
    reconstruction, expected = autoencoder.reconstruct(labels), autoencoder.reconstruct(whole)
    assert reconstruction.class_probs().equal(expected.class_probs()[..., :height, :width])
    assert reconstruction.maskige().equal(expected.maskige()[..., :height, :width])


@pytest.mark.parametrize("name", BOTH)
def test_a_maskige_at_twice_the_size_halves_the_pixels_per_token(autoencoders, draw_labels, name):
    """The paper's grid: a tokenizer of stride s on a maskige at scale 2 has one token per s / 2 image pixels."""
    plain = autoencoders[name]
    doubled = MaskigeAutoencoder(plain.transform, plain.tokenizer, plain.inverse, scale=2)
    labels = draw_labels(2, (30, 45), 5, seed=2, ignored=True)
    padded = np.full((2, 30, 46), 255)
    padded[..., :45] = labels
    rendered = plain.transform.paint(torch.from_numpy(padded.repeat(2, axis=1).repeat(2, axis=2)))
    tokens = doubled.encode(labels)
    assert (doubled.stride, tokens.shape) == (2, (2, 15, 23))
    assert tokens.equal(plain.tokenizer.encode(rendered))
    large = plain.decode(tokens)
    means = large.class_probs().detach().numpy().reshape(2, 5, 30, 2, 46, 2).mean((3, 5))[..., :45]
    reconstruction = doubled.reconstruct(labels)
    np.testing.assert_allclose(reconstruction.class_probs().detach().numpy(), means, atol=1e-6)
    assert reconstruction.maskige().equal(large.maskige()[..., :90])
    assert doubled.code_class_probs().shape == (12, 5, 2, 2)


@pytest.mark.parametrize("scale", [0, 3, 8])
def test_a_scale_that_does_not_divide_the_stride_is_refused(autoencoders, scale):
    plain = autoencoders["patches"]
    with pytest.raises(ValueError, match=rf"maskige\.scale={scale} must be a positive divisor of tokenizer\.stride=4"):
        MaskigeAutoencoder(plain.transform, plain.tokenizer, plain.inverse, scale=scale)


def network(autoencoder, stride=4):
    torch.manual_seed(0)
    backbone = TimmBackbone("resnet18")
    fusion = MultiLevelAggregation(backbone.channels, 8, 16, num_heads=2, window_size=4)
    token_head = None
    if autoencoder is not None:
        token_head = TiedTokenHead(16, autoencoder.code_class_probs(), autoencoder.tokenizer.log_usage())
    return ConditioningNetwork(backbone, fusion, BilinearPixelHead(16, 5, stride), token_head, stride)


@pytest.fixture(params=BOTH)
def segmenter(autoencoders, request):
    autoencoder = autoencoders[request.param]
    return GenerativeSegmenter(network(autoencoder), autoencoder).eval()


@pytest.mark.parametrize("readout", ["pixel", "argmax", "expected"])
def test_an_image_becomes_class_probabilities_by_every_readout(segmenter, readout):
    generation = segmenter(torch.rand(2, 3, 64, 64), readout)
    assert generation.class_probs().shape == (2, 5, 64, 64)
    assert generation.class_probs().dtype == torch.float32
    torch.testing.assert_close(generation.class_probs().sum(1), torch.ones(2, 64, 64))
    assert (generation.maskige() is None) == (readout == "pixel")


@pytest.mark.parametrize("readout", ["pixel", "argmax", "expected"])
def test_an_image_of_any_size_is_segmented_at_its_own_size(segmenter, readout):
    """As if its last row and column went on to whole tokens."""
    image = torch.rand(1, 3, 38, 45)
    padded = torch.from_numpy(np.pad(image.numpy(), ((0, 0), (0, 0), (0, 2), (0, 3)), mode="edge"))
    class_probs = segmenter(image, readout).class_probs()
    torch.testing.assert_close(class_probs, segmenter(padded, readout).class_probs()[..., :38, :45])


def test_pixel_logits_keep_their_gradients_whoever_asks_first(segmenter):
    output = segmenter.network(torch.rand(1, 3, 32, 32))
    with torch.no_grad():
        assert output.pixel_logits.shape == (1, 5, 32, 32)
    assert output.pixel_logits.requires_grad


def test_generation_enlarges_no_pixel_scores_and_paints_nothing(segmenter, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("nobody asked for this")

    monkeypatch.setattr(segmenter.network.pixel_head, "enlarge", refuse)
    if segmenter.autoencoder.tokenizer.knows_classes:
        monkeypatch.setattr(Decoded, "maskige", property(refuse))
    assert segmenter(torch.rand(1, 3, 32, 32), "argmax").labels().shape == (1, 32, 32)


def certain(tokens):
    """What a network says that is sure of these tokens, and of class 3 at every pixel."""
    prior_logits = 1e4 * torch.nn.functional.one_hot(tokens, 12).movedim(-1, 1).float()
    pixel_logits = torch.zeros(len(tokens), 5, 32, 48)
    pixel_logits[:, 3] = 1
    return ConditioningOutput(TokenScores.from_logits(prior_logits), pixel_logits, lambda scores: scores, (32, 48))


def test_when_the_prior_is_the_posterior_generation_is_the_reconstruction(segmenter, draw_labels):
    labels, autoencoder = draw_labels(2, (32, 48), 5, seed=4), segmenter.autoencoder
    tokens = autoencoder.tokenizer.encode(autoencoder.transform.paint(labels))
    ceiling = autoencoder.reconstruct(labels)
    for readout in ("argmax", "expected"):
        generation = segmenter.generate(certain(tokens), readout)
        torch.testing.assert_close(generation.class_probs(), ceiling.class_probs(), atol=1e-5, rtol=1e-5)
        assert generation.labels().equal(ceiling.labels())


def test_the_pixel_readout_takes_the_pixel_head_alone(segmenter):
    assert (segmenter.generate(certain(torch.zeros(1, 8, 12, dtype=torch.int64)), "pixel").labels() == 3).all()


def test_doubt_between_tokens_shows_in_expected_probabilities_and_not_in_argmax(autoencoders):
    autoencoder = autoencoders["patches"]
    segmenter = GenerativeSegmenter(network(autoencoder), autoencoder)
    prior_logits = torch.full((1, 12, 1, 1), -1e4)
    prior_logits[0, 2], prior_logits[0, 5] = 0.1, 0.0  # tokens 2 and 5, nearly even
    scores = TokenScores.from_logits(prior_logits)
    output = ConditioningOutput(scores, torch.zeros(1, 5, 4, 4), lambda pixels: pixels, (4, 4))
    codes, share = autoencoder.tokenizer.class_probs, torch.tensor([0.1, 0.0]).softmax(0)
    assert segmenter.generate(output, "argmax").class_probs()[0].equal(codes[2])
    mixed = share[0] * codes[2] + share[1] * codes[5]
    torch.testing.assert_close(segmenter.generate(output, "expected").class_probs()[0], mixed)


def test_the_autoencoder_is_frozen_and_stays_in_evaluation_mode(segmenter):
    segmenter.train()
    assert segmenter.network.training
    assert not any(module.training for module in segmenter.autoencoder.modules())
    assert not any(weight.requires_grad for weight in segmenter.autoencoder.parameters())


def test_mixed_precision_keeps_the_promises_of_class_probabilities(segmenter):
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        for readout in segmenter.readouts:
            class_probs = segmenter(torch.rand(1, 3, 32, 32), readout).class_probs()
            assert class_probs.dtype == torch.float32
            torch.testing.assert_close(class_probs.sum(1), torch.ones(1, 32, 32))


def test_the_pixel_twin_reads_pixels_and_nothing_else():
    twin = GenerativeSegmenter(network(None), None).eval()
    assert twin.readouts == ("pixel",)
    assert twin(torch.rand(1, 3, 32, 32), "pixel").labels().shape == (1, 32, 32)
    with pytest.raises(ValueError, match=r"unknown readout='expected': one of pixel"):
        twin(torch.rand(1, 3, 32, 32), "expected")


def test_a_mistyped_readout_is_refused_with_those_there_are(segmenter):
    with pytest.raises(ValueError, match=r"unknown readout='argmin': one of pixel, argmax, expected"):
        segmenter.check_readout("argmin")


@pytest.mark.parametrize("readout", ["pixel", "argmax", "expected"])
@pytest.mark.parametrize("size", [(64, 64), (38, 45)])
def test_labels_asked_for_first_are_those_of_the_class_probabilities(segmenter, readout, size):
    image = torch.rand(2, 3, *size)
    with torch.no_grad():
        output = segmenter.network(image)
        labels = segmenter.generate(output, readout).labels()
        class_probs = segmenter.generate(output, readout).class_probs()
    assert labels.shape == class_probs[:, 0].shape
    assert labels.dtype == torch.int64
    best, second = class_probs.topk(2, dim=1).values.unbind(1)
    clear = best - second > 1e-5
    assert labels[clear].equal(class_probs.argmax(1)[clear])


def test_labels_of_patches_cost_no_class_probabilities(autoencoders):
    segmenter = GenerativeSegmenter(network(autoencoders["patches"]), autoencoders["patches"]).eval()
    generation = segmenter(torch.rand(1, 3, 64, 64))
    assert generation.labels().shape == (1, 64, 64)
    assert "decoded" not in vars(generation)


@pytest.mark.parametrize("change", [{"scale": 2}, {"native_probs": False}])
def test_labels_are_read_off_class_probabilities_that_are_not_a_tokens_own(autoencoders, change):
    plain = autoencoders["patches"]
    changed = MaskigeAutoencoder(plain.transform, plain.tokenizer, plain.inverse, **change)
    generation = GenerativeSegmenter(network(changed, changed.stride), changed).eval()(torch.rand(1, 3, 64, 64))
    labels = generation.labels()
    assert labels.equal(generation.class_probs().argmax(1))


def test_a_maskige_is_decoded_once_whatever_is_asked(segmenter, monkeypatch):
    decoded, made = [], MaskigeAutoencoder.decode_scores
    monkeypatch.setattr(MaskigeAutoencoder, "decode_scores", lambda *given: decoded.append(1) or made(*given))
    generation = segmenter(torch.rand(1, 3, 32, 32))
    assert decoded == []
    assert generation.labels().equal(generation.class_probs().argmax(1)) or segmenter.autoencoder.cell_classes
    assert generation.maskige().shape == (1, 3, 32, 32)
    assert generation.labels().equal(generation.class_probs().max(dim=1).indices)
    assert decoded == [1]
