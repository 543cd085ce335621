from __future__ import annotations

import pytest
import torch

from gss.objectives.losses import reconstruction_loss
from gss.tokenizer.vqvae import VQVAE

SMALL = {"vocab_size": 12, "hidden": 8, "code_dim": 4, "num_blocks": 1}


@pytest.fixture(scope="session")
def maskige(transform, labels):
    return transform.paint(labels)


@pytest.fixture(scope="session")
def trained(maskige):
    """A VQ-VAE of stride 4 after some steps on the drawn maskiges, and its losses."""
    torch.manual_seed(0)
    vqvae = VQVAE(stride=4, **{**SMALL, "hidden": 16})
    optimizer = torch.optim.Adam(vqvae.parameters(), lr=1e-2)
    losses = []
    for _ in range(160):
        result = vqvae.reconstruct(maskige)
        loss = reconstruction_loss(result.maskige, maskige) + 0.25 * result.commitment
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        losses.append(loss.item())
    return vqvae.eval(), losses


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_a_picture_becomes_a_grid_of_tokens_and_a_picture_again(maskige, stride):
    vqvae = VQVAE(stride=stride, **SMALL).eval()
    tokens = vqvae.encode(maskige)
    assert tokens.shape == (6, 32 // stride, 48 // stride)
    assert tokens.dtype == torch.int64
    decoded = vqvae.decode(tokens)
    assert decoded.maskige.shape == maskige.shape
    assert 0 <= decoded.maskige.min() <= decoded.maskige.max() <= 1
    assert decoded.class_probs is None


def test_the_gradient_passes_the_quantizer_into_the_encoder(maskige):
    vqvae = VQVAE(stride=4, **SMALL)
    vqvae.reconstruct(maskige)  # the first pass sets the codes
    reconstruction_loss(vqvae.reconstruct(maskige).maskige, maskige).backward()
    assert all(weight.grad.abs().sum() > 0 for weight in vqvae.encoder.parameters())


def test_a_few_steps_lower_the_loss(trained):
    _, losses = trained
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_training_and_encoding_agree_on_the_tokens(trained, maskige):
    vqvae, _ = trained
    result = vqvae.reconstruct(maskige)
    assert vqvae.encode(maskige).equal(result.tokens)
    torch.testing.assert_close(vqvae.decode(result.tokens).maskige, result.maskige)
    assert len(result.tokens.unique()) > 1


def test_tokens_are_the_nearest_codes(trained, maskige):
    vqvae, _ = trained
    latent = vqvae.encoder(maskige * 2 - 1).movedim(1, -1).flatten(0, 2)
    distances = torch.cdist(latent.double(), vqvae.code_table.double())
    assert vqvae.encode(maskige).flatten().equal(distances.argmin(1))


def test_certain_tokens_decode_expectedly_as_they_decode(trained, maskige):
    vqvae, _ = trained
    tokens = vqvae.encode(maskige)
    certain = torch.nn.functional.one_hot(tokens, 12).movedim(-1, 1).float()
    torch.testing.assert_close(vqvae.decode_expected(certain).maskige, vqvae.decode(tokens).maskige)


def test_usage_is_a_distribution_that_favours_used_codes(trained, maskige):
    vqvae, _ = trained
    share = vqvae.log_usage().exp()
    counts = vqvae.encode(maskige).flatten().bincount(minlength=12)
    assert share.sum().item() == pytest.approx(1)
    assert torch.corrcoef(torch.stack([share, counts / counts.sum()]))[0, 1] > 0.8  # the averages lag behind


def test_everything_travels_with_the_weights(trained, maskige):
    vqvae, _ = trained
    fresh = VQVAE(stride=4, **{**SMALL, "hidden": 16}).eval()
    fresh.load_state_dict(vqvae.state_dict())
    tokens = vqvae.encode(maskige)
    assert fresh.encode(maskige).equal(tokens)
    assert fresh.decode(tokens).maskige.equal(vqvae.decode(tokens).maskige)
    assert fresh.log_usage().equal(vqvae.log_usage())


def test_mixed_precision_does_not_reach_a_trained_tokenizer(trained, maskige):
    vqvae, _ = trained
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        tokens, decoded = vqvae.encode(maskige), vqvae.decode(vqvae.encode(maskige)).maskige
    assert tokens.equal(vqvae.encode(maskige))
    assert decoded.dtype == torch.float32


@pytest.mark.parametrize("stride", [0, 1, 3, 6])
def test_a_stride_that_is_no_power_of_two_is_refused(stride):
    with pytest.raises(ValueError, match=rf"tokenizer\.stride={stride} must be a power of two"):
        VQVAE(stride=stride)


def test_a_size_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"30x32 does not divide into tokens of stride 4"):
        VQVAE(stride=4, **SMALL).encode(torch.rand(1, 3, 30, 32))
