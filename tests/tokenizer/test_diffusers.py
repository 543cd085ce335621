"""`tokenizer=vqgan` and `tokenizer=kl`: what every tokenizer does, and their training."""

from __future__ import annotations

import pytest
import torch

from diffusers_networks import NAMES, tokenizer_of
from gss.maskige.inverse import SoftDistance
from gss.objectives.losses import reconstruction_loss
from gss.pipeline import MaskigeAutoencoder

pytest.importorskip("diffusers", reason="needs the extra: pip install 'gss[diffusers]'")


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
    latent = torch.randn(1, tokenizer.code_table.shape[1], 4, 4)
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
    found = tokenizer.code_table[tokens[0, :, 0]] * tokenizer.spread + tokenizer.centre
    torch.testing.assert_close(found, grid[torch.cdist(latent, grid).argmin(1)])


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
