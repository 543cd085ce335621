from __future__ import annotations

import math

import pytest
import torch

from gss.objectives.losses import reconstruction_loss
from gss.tokenizer.quantizers import build_quantizer, fsq_levels
from gss.tokenizer.vqvae import VQVAE

NAMES = ("ema", "fsq", "lfq")
SETTINGS = {"code_dim": 4, "decay": 0.9, "levels": None, "entropy_weight": 0.5, "diversity": 1.0}
SMALL = {"stride": 4, "vocab_size": 16, "hidden": 8, "code_dim": 4, "num_blocks": 1}


def quantizer_of(name, vocab_size=16, **more):
    torch.manual_seed(0)
    return build_quantizer(name, vocab_size, **{**SETTINGS, **more})


def latent_for(quantizer, seed=1):
    return torch.randn(2, quantizer.dim, 6, 5, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=NAMES)
def quantizer(request):
    """One that has seen a batch, still in training."""
    made = quantizer_of(request.param)
    made(latent_for(made))
    return made


@pytest.fixture(scope="module")
def maskige(transform, labels):
    return transform.paint(labels)


@pytest.fixture(params=NAMES, scope="module")
def trained(request, maskige):
    """A VQ-VAE of each quantizer after some steps, and its losses of reconstruction."""
    torch.manual_seed(0)
    vqvae = VQVAE(**SMALL, quantizer=request.param)
    optimizer, losses = torch.optim.Adam(vqvae.parameters(), lr=1e-2), []
    for _ in range(160):
        result = vqvae.reconstruct(maskige)
        loss = reconstruction_loss(result.maskige, maskige) + 0.25 * result.commitment
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        losses.append(reconstruction_loss(result.maskige, maskige).item())
    return vqvae.eval(), losses


def test_a_latent_becomes_codes_of_its_own_shape(quantizer):
    latent = latent_for(quantizer)
    tokens, result = quantizer.encode(latent), quantizer(latent)
    assert result.latent.shape == latent.shape
    assert result.tokens.shape == tokens.shape == (2, 6, 5)
    assert result.tokens.dtype == tokens.dtype == torch.int64
    assert 0 <= tokens.min() <= tokens.max() < quantizer.vocab_size == 16
    assert result.commitment.shape == ()
    assert quantizer.codebook.shape == (16, quantizer.dim)
    assert len(quantizer.codebook.unique(dim=0)) == 16


def test_training_and_encoding_agree_on_tokens_and_codes(quantizer):
    latent = latent_for(quantizer, seed=2)
    tokens, codes = quantizer.encode(latent), quantizer.codebook.clone()  # before the codes move
    result = quantizer(latent)
    assert result.tokens.equal(tokens)
    torch.testing.assert_close(result.latent, codes[tokens].movedim(-1, 1))
    assert len(tokens.unique()) > 4


def test_the_codebook_is_what_the_library_looks_up(quantizer):
    tokens = torch.arange(16).view(2, 2, 4)
    look_up = getattr(quantizer.layer, "indices_to_codes", None) or quantizer.layer.get_codes_from_indices
    assert quantizer.codebook[tokens].movedim(-1, 1).equal(look_up(tokens))


@pytest.mark.parametrize(("name", "vocab_size"), [("ema", 16), ("fsq", 16), ("fsq", 15), ("lfq", 16)])
def test_the_likeliest_code_is_the_token_and_scores_fall_with_the_squared_distance(name, vocab_size):
    quantizer = quantizer_of(name, vocab_size)
    latent = 2 * latent_for(quantizer)
    quantizer(latent)
    logits = quantizer.logits(latent)
    assert logits.argmax(1).equal(quantizer.encode(latent))
    distances = torch.cdist(quantizer.place(latent).movedim(1, -1).flatten(0, 2), quantizer.codebook).square()
    found = logits.movedim(1, -1).flatten(0, 2)
    torch.testing.assert_close(found - found[:, :1], distances[:, :1] - distances, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["ema", "lfq"])
def test_every_code_is_its_own_token(name):
    quantizer = quantizer_of(name)
    quantizer(latent_for(quantizer))
    assert quantizer.encode(quantizer.codebook.T[None, :, None]).flatten().equal(torch.arange(16))


def test_levels_are_rounded_as_the_bounded_latent_says():
    quantizer = quantizer_of("fsq", 15, levels=[5, 3])
    latent = latent_for(quantizer)
    steps = torch.tensor([2, 1])[:, None, None]  # (levels - 1) / 2: the middle of an odd grid is zero
    rounded = (latent.tanh() * steps * 1.001).round()
    assert quantizer(latent).latent.allclose(rounded / steps)
    assert quantizer.encode(latent).equal((rounded[:, 0] + 2 + 5 * (rounded[:, 1] + 1)).long())


def test_signs_are_bits_and_the_loss_has_its_formula():
    quantizer = quantizer_of("lfq", 4, entropy_weight=0.3, diversity=2.0)
    latent = latent_for(quantizer) * 0.2
    result = quantizer(latent)
    signs = latent > 0
    assert result.tokens.equal(2 * signs[:, 0] + signs[:, 1].long())
    rows = latent.movedim(1, -1).reshape(-1, 2).double()
    codes = torch.tensor([[-1, -1], [-1, 1], [1, -1], [1, 1]]).double()
    probs = (-10 * torch.cdist(rows, codes).square()).softmax(1)
    certain, diverse = torch.special.entr(probs).sum(1).mean(), torch.special.entr(probs.mean(0)).sum()
    distance = (rows - rows.sign()).square().mean()
    assert result.commitment.item() == pytest.approx((distance + 0.3 * (certain - 2 * diverse)).item(), abs=1e-3)


def test_the_gradient_passes_straight_to_the_latent(quantizer):
    latent = latent_for(quantizer).requires_grad_()
    quantizer(latent).latent.sum().backward()
    assert latent.grad.gt(0).all()


def test_usage_counts_what_training_saw_and_nothing_else(quantizer):
    latent, before = latent_for(quantizer, seed=3), quantizer.usage.clone()
    counts = quantizer(latent).tokens.flatten().bincount(minlength=16)
    moved = before * 0.9 + counts * 0.1
    alive = moved >= 1  # dead moving-average codes restart
    torch.testing.assert_close(quantizer.usage[alive], moved[alive])
    after = quantizer.usage.clone()
    quantizer.eval()(latent), quantizer.train().encode(latent)
    assert quantizer.usage.equal(after)


@pytest.mark.parametrize("name", NAMES)
def test_log_usage_is_a_finite_distribution_that_follows_a_single_code(name):
    quantizer = quantizer_of(name)
    for _ in range(400):
        quantizer(torch.full((1, quantizer.dim, 6, 5), 0.7))
    log_usage = quantizer.log_usage()
    assert log_usage.isfinite().all()
    assert log_usage.exp().sum().item() == pytest.approx(1)
    assert quantizer.log_usage().shape == (16,)
    assert log_usage.argmax() == quantizer.encode(torch.full((1, quantizer.dim, 1, 1), 0.7)).item()


def test_a_few_steps_lower_the_reconstruction_loss(trained):
    _, losses = trained
    assert losses[-1] < 0.7 * losses[0]


def test_the_gradient_reaches_the_whole_encoder(trained, maskige):
    vqvae, _ = trained
    vqvae.train().zero_grad()
    reconstruction_loss(vqvae.reconstruct(maskige).maskige, maskige).backward()
    vqvae.eval()
    assert all(weight.grad.abs().sum() > 0 for weight in vqvae.encoder.parameters())


def test_certain_tokens_decode_expectedly_as_they_decode(trained, maskige):
    vqvae, _ = trained
    tokens = vqvae.encode(maskige)
    certain = torch.nn.functional.one_hot(tokens, 16).movedim(-1, 1).float()
    torch.testing.assert_close(vqvae.decode_expected(certain).maskige, vqvae.decode(tokens).maskige)
    assert len(tokens.unique()) > 1


def test_mixed_precision_changes_no_token(trained, maskige):
    vqvae, _ = trained
    tokens = vqvae.encode(maskige)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert vqvae.encode(maskige).equal(tokens)
        assert vqvae.reconstruct(maskige).tokens.equal(tokens)


def test_everything_travels_with_the_weights(trained, maskige, request):
    vqvae, _ = trained
    torch.manual_seed(1)
    fresh = VQVAE(**SMALL, quantizer=request.node.callspec.params["trained"]).eval()
    fresh.load_state_dict(vqvae.state_dict())
    tokens = vqvae.encode(maskige)
    assert fresh.encode(maskige).equal(tokens)
    assert fresh.decode(tokens).maskige.equal(vqvae.decode(tokens).maskige)
    assert fresh.log_usage().equal(vqvae.log_usage())


@pytest.mark.parametrize(
    ("vocab_size", "levels"),
    [(240, (8, 6, 5)), (1000, (8, 5, 5, 5)), (1024, (16, 8, 8)), (15360, (8, 8, 8, 6, 5)), (32, (8, 4)), (3, (3,))],
)
def test_levels_follow_from_the_vocabulary_size(vocab_size, levels):
    assert fsq_levels(vocab_size) == levels
    assert math.prod(levels) == vocab_size


def test_chosen_levels_are_kept():
    assert fsq_levels(17, [17]) == (17,)
    assert VQVAE(vocab_size=64, hidden=8, quantizer="fsq", levels=[4, 4, 4]).code_table.shape == (64, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantizer": "fsq", "vocab_size": 1023}, r"vocab_size=1023 is no product .* choose 1014 or 1024"),
        ({"quantizer": "fsq", "vocab_size": 2}, r"vocab_size=2 is no product .* choose 3,"),
        ({"quantizer": "fsq", "levels": [8, 5, 5, 5]}, r"\[8, 5, 5, 5\] .* product tokenizer\.vocab_size=1024.* 1000"),
        ({"quantizer": "fsq", "vocab_size": 4, "levels": [2, 2]}, r"levels=\[2, 2\] must be whole numbers from 3 on"),
        ({"quantizer": "fsq", "vocab_size": 1, "levels": []}, r"levels=\[\] must be whole numbers from 3 on"),
        ({"quantizer": "lfq", "vocab_size": 1000}, r"vocab_size=1000 must be a power of two .* choose 512 or 1024"),
        ({"quantizer": "lfq", "vocab_size": 1}, r"vocab_size=1 must be a power of two .* choose 2 or 4"),
        ({"quantizer": "ema", "levels": [8, 8]}, r"levels=\[8, 8\] is for tokenizer\.quantizer=fsq, not ema"),
        ({"quantizer": "vq"}, r"unknown tokenizer\.quantizer='vq': one of ema, fsq, lfq"),
    ],
)
def test_what_a_quantizer_cannot_have_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        VQVAE(**settings)


def test_scores_over_tokens_agree_with_encoding_and_pass_gradients_to_the_maskige(trained, maskige):
    vqvae, _ = trained
    picture = maskige.clone().requires_grad_()
    logits = vqvae.token_logits(picture)
    assert logits.argmax(1).equal(vqvae.encode(maskige))
    logits.square().mean().backward()
    assert picture.grad.flatten(1).abs().sum(1).gt(0).all()
