"""`tokenizer=vqgan` and `tokenizer=kl` with weights from folders in diffusers' own format."""

from __future__ import annotations

import json
import math
import socket

import pytest
import torch

from diffusers_networks import KINDS, NAMES, publish, tokenizer_of
from gss.objectives.losses import reconstruction_loss

pytest.importorskip("diffusers", reason="needs the extra: pip install 'gss[diffusers]'")


@pytest.fixture(scope="session")
def maskige(transform, labels):
    return transform.paint(labels)


@pytest.fixture(params=NAMES, scope="session")
def name(request):
    return request.param


@pytest.fixture(scope="session")
def folder(name, tmp_path_factory):
    made = tmp_path_factory.mktemp(name)
    return made, publish(name, made)


def test_a_folder_in_diffusers_format_gives_the_published_networks_tokens(name, folder, maskige):
    path, published = folder
    tokenizer = tokenizer_of(name, weights=str(path)).eval()
    tokenizer.load_weights()
    tokens = tokenizer.encode(maskige)
    with torch.no_grad():
        if name == "vqgan":
            codes, _, (_, _, expected) = published.quantize(published.encode(maskige * 2 - 1).latents)
            picture = published.decode(codes, force_not_quantize=True).sample
        else:
            mean = published.encode(maskige * 2 - 1).latent_dist.mean
            axes = [torch.linspace(-3, 3, levels) for levels in (4, 3)]
            found = [(mean[:, i, ..., None] - axis).abs().argmin(-1) for i, axis in enumerate(axes)]
            expected = found[0] + 4 * found[1]
            picture = published.decode(torch.stack([axis[i] for axis, i in zip(axes, found, strict=True)], 1)).sample
    assert tokens.equal(expected.view_as(tokens))
    assert len(tokens.unique()) > 1
    torch.testing.assert_close(tokenizer.decode(tokens).maskige, (picture / 2 + 0.5).clamp(0, 1))


def test_published_weights_are_kept_and_counted_when_frozen(name, folder, maskige, transform, palette):
    path, published = folder
    tokenizer = tokenizer_of(name, weights=str(path), frozen=True, usage_pictures=3).eval()
    assert not tokenizer.trainable
    assert not any(weight.requires_grad for weight in tokenizer.parameters())
    tokenizer.fit([maskige[:2], maskige[2:]], palette.colours, palette.ignore_colour)
    counts = tokenizer.encode(maskige[:3]).flatten().bincount(minlength=12) + 0.5
    torch.testing.assert_close(tokenizer.log_usage().exp(), counts / counts.sum(), atol=1e-4, rtol=0)
    state = published.state_dict()
    assert all(tensor.equal(state[key]) for key, tensor in tokenizer.network.state_dict().items())


def test_a_training_goes_on_from_published_weights(name, folder, maskige):
    tokenizer = tokenizer_of(name, weights=str(folder[0]))
    assert tokenizer.trainable
    tokenizer.load_weights()
    before = tokenizer.network.decoder.conv_out.weight.clone()
    torch.testing.assert_close(before, folder[1].decoder.conv_out.weight, rtol=0, atol=0)
    reconstruction_loss(tokenizer.reconstruct(maskige).maskige, maskige).backward()
    assert tokenizer.network.decoder.conv_out.weight.grad.abs().sum() > 0


def test_nothing_is_fetched(name, folder, monkeypatch):
    def refuse(*arguments, **more):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    tokenizer_of(name, weights=str(folder[0])).load_weights()
    with pytest.raises(ValueError, match=r"there is no config\.json and no diffusion_pytorch_model\.safetensors in"):
        tokenizer_of(name, weights="stabilityai/sd-vae-ft-mse").load_weights()


def test_a_pickle_is_not_read(name, folder, tmp_path):
    (tmp_path / "config.json").write_bytes((folder[0] / "config.json").read_bytes())
    torch.save(folder[1].state_dict(), tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match=r"no diffusion_pytorch_model\.safetensors in .*pickles among them"):
        tokenizer_of(name, weights=str(tmp_path)).load_weights()


def test_a_damaged_folder_is_said(name, folder, tmp_path):
    weights = (folder[0] / "diffusion_pytorch_model.safetensors").read_bytes()
    config = json.loads((folder[0] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ValueError, match=r"tokenizer\.weights=.* cannot be read"):
        tokenizer_of(name, weights=str(tmp_path)).load_weights()
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(weights)
    (tmp_path / "config.json").write_text(json.dumps({**config, "layers_per_block": 2}))
    with pytest.raises(ValueError, match=r"does not fit its own config\.json: missing"):
        tokenizer_of(name, weights=str(tmp_path), network={"layers_per_block": 2}).load_weights()


def test_a_folder_of_the_other_network_is_refused(name, folder):
    other = {"vqgan": "kl", "kl": "vqgan"}[name]
    with pytest.raises(
        ValueError, match=rf"cannot be read: it holds a {KINDS[name]}, but this tokenizer needs a {KINDS[other]}"
    ):
        tokenizer_of(other, weights=str(folder[0])).load_weights()


MISMATCHES = {
    "vqgan": ({"vocab_size": 16}, r"tokenizer\.vocab_size is 12 in the weights but 16 in the configuration"),
    "kl": ({"levels": [12]}, r"the length of tokenizer\.levels is 2 in the weights but 1 in the configuration"),
}


def test_another_layout_is_refused_with_both_values(name, folder):
    more, sentence = MISMATCHES[name]
    with pytest.raises(ValueError, match=sentence):
        tokenizer_of(name, weights=str(folder[0]), **more).load_weights()
    with pytest.raises(
        ValueError, match=r"tokenizer\.network\.act_fn is 'silu' in the weights but 'relu' in the config"
    ):
        tokenizer_of(name, weights=str(folder[0]), network={"act_fn": "relu"}).load_weights()


def test_rounding_costs_at_most_half_a_step(tmp_path, maskige):
    published = publish("kl", tmp_path)
    with torch.no_grad():
        mean = published.encode(maskige * 2 - 1).latent_dist.mean
    assert mean.abs().max() < 3  # within the levels' reach
    for levels in ([4, 3], [16, 15]):
        tokenizer = tokenizer_of("kl", vocab_size=math.prod(levels), levels=levels, weights=str(tmp_path)).eval()
        tokenizer.load_weights()
        error = tokenizer.code_table[tokenizer.encode(maskige)].movedim(-1, 1) * 3 - mean
        for channel, number in enumerate(levels):
            step = 6 / (number - 1)
            assert error[:, channel].abs().max() <= step / 2 + 1e-5
