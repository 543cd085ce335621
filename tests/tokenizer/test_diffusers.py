"""`tokenizer=vqgan` and `tokenizer=kl`: behaviour, training, and weights from folders in diffusers' own format."""

from __future__ import annotations

import json
import math
import socket

import pytest
import torch

from gss.losses import reconstruction_loss
from gss.maskige.inverse import SoftDistance
from gss.pipeline import MaskigeAutoencoder
from gss.tokenizer import build_tokenizer

diffusers = pytest.importorskip("diffusers", reason="needs the extra: pip install 'gss[diffusers]'")

LAYERS = {"layers_per_block": 1, "norm_num_groups": 4, "mid_block_add_attention": False}
NETWORKS = {"vqgan": {**LAYERS, "latent_channels": 4}, "kl": {**LAYERS, "scaling_factor": 1.0}}
KINDS = {"vqgan": "VQModel", "kl": "AutoencoderKL"}
NAMES = tuple(NETWORKS)
WIDTHS = [8, 8, 16, 16]


def settings(name, stride=4, **more):
    network = {"block_out_channels": WIDTHS[: stride.bit_length()], **NETWORKS[name], **more.pop("network", {})}
    levels = {"levels": [4, 3]} if name == "kl" and "vocab_size" not in more else {}
    return {"name": name, "stride": stride, "vocab_size": 12, "network": network, **levels, **more}


def tokenizer_of(name, **more):
    torch.manual_seed(0)
    return build_tokenizer(**settings(name, **more))


@pytest.fixture(scope="session")
def maskige(transform, labels):
    return transform.paint(labels)


@pytest.fixture(params=NAMES, scope="session")
def name(request):
    return request.param


@pytest.fixture(scope="session")
def trained(name, maskige):
    """One of stride 4 after forty steps on the drawn maskiges, and its losses."""
    tokenizer, losses = tokenizer_of(name), []
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=5e-3)
    for _ in range(40):
        result = tokenizer.reconstruct(maskige)
        reconstruction = reconstruction_loss(result.maskige, maskige)
        optimizer.zero_grad(), (reconstruction + 0.25 * result.commitment).backward(), optimizer.step()
        losses.append(reconstruction.item())
    return tokenizer.eval(), losses


def publish(name, path):
    """Writes a random network with save_pretrained, and gives it."""
    torch.manual_seed(1)
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}
    sizes = {"vqgan": {"num_vq_embeddings": 12}, "kl": {"latent_channels": 2}}[name]
    published = getattr(diffusers, KINDS[name])(**{**settings(name)["network"], **blocks, **sizes}).eval()
    if name == "vqgan":
        published.quantize.embedding.weight.data.normal_()  # apart from each other as after a training
    published.save_pretrained(path)
    return published


@pytest.fixture(scope="session")
def folder(name, tmp_path_factory):
    made = tmp_path_factory.mktemp(name)
    return made, publish(name, made)


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_a_picture_becomes_a_grid_of_tokens_and_a_picture_again(name, maskige, stride):
    tokenizer = tokenizer_of(name, stride=stride).eval()
    picture = maskige[:1, :, :24, :40]
    tokens = tokenizer.encode(picture)
    assert tokens.shape == (1, 24 // stride, 40 // stride)
    assert tokens.dtype == torch.int64
    assert 0 <= tokens.min() <= tokens.max() < 12
    decoded = tokenizer.decode(tokens)
    assert decoded.maskige.shape == picture.shape
    assert 0 <= decoded.maskige.min() <= decoded.maskige.max() <= 1
    assert decoded.class_probs is None


def test_the_gradient_reaches_every_weight(name, maskige):
    tokenizer = tokenizer_of(name)
    tokenizer.reconstruct(maskige)  # the first pass sets the codes
    reconstruction_loss(tokenizer.reconstruct(maskige).maskige, maskige).backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in tokenizer.parameters())


def test_a_colour_beyond_the_range_still_feels_its_way_back(name):
    tokenizer = tokenizer_of(name)
    tokenizer.network.decoder.conv_out.bias.data.fill_(-5)  # darker than black everywhere
    latent = torch.randn(1, tokenizer.codebook.shape[1], 4, 4)
    decoded = tokenizer.decode_latent(latent)
    assert decoded.max() == 0
    reconstruction_loss(decoded, torch.ones_like(decoded)).backward()
    assert (tokenizer.network.decoder.conv_out.bias.grad < 0).all()


def test_a_few_steps_lower_the_loss(trained):
    _, losses = trained
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_training_and_encoding_agree_on_the_tokens(trained, maskige):
    tokenizer, _ = trained
    result = tokenizer.reconstruct(maskige)
    assert tokenizer.encode(maskige).equal(result.tokens)
    torch.testing.assert_close(tokenizer.decode(result.tokens).maskige, result.maskige)
    assert len(result.tokens.unique()) > 3


def test_certain_tokens_decode_expectedly_as_they_decode(trained, maskige):
    tokenizer, _ = trained
    tokens = tokenizer.encode(maskige)
    certain = torch.nn.functional.one_hot(tokens, 12).movedim(-1, 1).float()
    torch.testing.assert_close(tokenizer.decode_expected(certain).maskige, tokenizer.decode(tokens).maskige)


def test_scores_over_tokens_agree_with_encoding_and_pass_gradients_to_the_maskige(trained, maskige):
    tokenizer, _ = trained
    picture = maskige.clone().requires_grad_()
    logits = tokenizer.token_logits(picture)
    assert logits.argmax(1).equal(tokenizer.encode(maskige))
    logits.square().mean().backward()
    assert picture.grad.flatten(1).abs().sum(1).gt(0).all()


def test_usage_is_a_distribution_that_favours_used_codes(trained, maskige):
    tokenizer, _ = trained
    share = tokenizer.log_usage().exp()
    counts = tokenizer.encode(maskige).flatten().bincount(minlength=12)
    assert share.sum().item() == pytest.approx(1)
    assert torch.corrcoef(torch.stack([share, counts / counts.sum()]))[0, 1] > 0.8  # the averages lag behind


def test_everything_travels_with_the_weights(trained, name, maskige):
    tokenizer, _ = trained
    fresh = tokenizer_of(name, weights="gone").eval()
    fresh.load_state_dict(tokenizer.state_dict())
    tokens = tokenizer.encode(maskige)
    assert fresh.encode(maskige).equal(tokens)
    assert fresh.decode(tokens).maskige.equal(tokenizer.decode(tokens).maskige)
    assert fresh.log_usage().equal(tokenizer.log_usage())


def test_mixed_precision_does_not_reach_the_tokens(trained, maskige):
    tokenizer, _ = trained
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        tokens, decoded = tokenizer.encode(maskige), tokenizer.decode(tokenizer.encode(maskige)).maskige
    assert tokens.equal(tokenizer.encode(maskige))
    assert decoded.dtype == torch.float32


def test_each_token_has_class_probabilities_amid_its_equals(trained, transform):
    tokenizer, _ = trained
    class_probs = MaskigeAutoencoder(transform, tokenizer, SoftDistance(900.0)).code_class_probs()
    assert class_probs.shape == (12, 5, 4, 4)
    torch.testing.assert_close(class_probs.sum(1), torch.ones(12, 4, 4))


def test_the_divergence_is_that_of_the_posterior_from_a_standard_normal(maskige):
    tokenizer = tokenizer_of("kl", kl_weight=0.5, network={"scaling_factor": 0.25, "shift_factor": 0.3})
    posterior = tokenizer.network.encode(maskige * 2 - 1).latent_dist
    scaled = torch.distributions.Normal((posterior.mean - 0.3) * 0.25, posterior.std * 0.25)
    expected = torch.distributions.kl_divergence(scaled, torch.distributions.Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(tokenizer.reconstruct(maskige).commitment, 0.5 * expected)


def test_levels_reach_three_standard_deviations_and_the_nearest_is_taken():
    tokenizer = tokenizer_of("kl", levels=[4, 3], network={"scaling_factor": 0.5, "shift_factor": 1.0})
    values = torch.tensor([-9.0, -1.4, 0.4, 1.2, 3.3, 20.0])  # of the latent: its centre is 1, its deviation 2
    grid = torch.cartesian_prod(torch.tensor([-5.0, -1, 3, 7]), torch.tensor([-5.0, 1, 7]))
    latent = torch.stack([values, values.flip(0)], 1)
    tokens = tokenizer.quantizer.encode(((latent - tokenizer.centre) / tokenizer.spread).T[None, :, :, None])
    found = tokenizer.codebook[tokens[0, :, 0]] * tokenizer.spread + tokenizer.centre
    torch.testing.assert_close(found, grid[torch.cdist(latent, grid).argmin(1)])


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
    with pytest.raises(ValueError, match=r"tokenizer\.network\.act_fn is silu in the weights but relu in the config"):
        tokenizer_of(name, weights=str(folder[0]), network={"act_fn": "relu"}).load_weights()


WRONG = {
    "a stride of other blocks": ({"stride": 8, "network": {"block_out_channels": [8, 8]}}, r"tokenizer\.stride=8, but"),
    "an argument that is none": ({"network": {"channels": 3}}, r"tokenizer\.network has no channels: \w+ takes act_fn"),
    "groups that do not divide": ({"network": {"norm_num_groups": 3}}, r"tokenizer\.network=.* makes no \w+: .*divis"),
    "frozen without weights": ({"frozen": True}, r"tokenizer\.frozen=true .* give tokenizer\.weights=FOLDER"),
    "nothing to count": ({"usage_pictures": 0}, r"tokenizer\.usage_pictures=0 must be at least 1"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_contradictory_settings_are_refused(name, wrong):
    more, sentence = WRONG[wrong]
    with pytest.raises(ValueError, match=sentence):
        tokenizer_of(name, **more)


def test_a_size_that_does_not_divide_is_refused(name):
    with pytest.raises(ValueError, match=r"30x32 does not divide into tokens of stride 4"):
        tokenizer_of(name).encode(torch.rand(1, 3, 30, 32))


def test_rounding_costs_at_most_half_a_step(tmp_path, maskige):
    published = publish("kl", tmp_path)
    with torch.no_grad():
        mean = published.encode(maskige * 2 - 1).latent_dist.mean
    assert mean.abs().max() < 3  # within the levels' reach
    for levels in ([4, 3], [16, 15]):
        tokenizer = tokenizer_of("kl", vocab_size=math.prod(levels), levels=levels, weights=str(tmp_path)).eval()
        tokenizer.load_weights()
        error = tokenizer.codebook[tokenizer.encode(maskige)].movedim(-1, 1) * 3 - mean
        for channel, number in enumerate(levels):
            step = 6 / (number - 1)
            assert error[:, channel].abs().max() <= step / 2 + 1e-5
