from __future__ import annotations

import copy
import hashlib

import pytest
import torch
from torch.nn import functional

from gss.tokenizer.dalle import DalleDVAE
from gss.tokenizer.dalle_conversion import convert_dalle
from gss.tokenizer.dalle_network import DVAEDecoder, DVAEEncoder, DVAELayout
from gss.tokenizer.dalle_weights import DalleWeights
from published_dvae import Sizes, save_published

SIZES = {"vocab_size": 12, "hidden": 8, "num_blocks": 2, "code_dim": 6}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Published files of a tiny dVAE and their conversion."""
    made = tmp_path_factory.mktemp("published")
    save_published(made, Sizes(**SIZES))
    convert_dalle(made, made / "dalle.safetensors", {})
    return made


@pytest.fixture(scope="session")
def tensors(folder):
    """The same tensors by published name."""
    return save_published(folder, Sizes(**SIZES))


@pytest.fixture(scope="session")
def loaded(folder):
    dvae = DalleDVAE(str(folder / "dalle.safetensors"), **SIZES)
    dvae.load_weights()
    return dvae.eval()


@pytest.fixture
def maskige(transform, labels):
    return transform.paint(labels)


def conv(tensors, name, x):
    weight = tensors[f"{name}.w"]
    return functional.conv2d(x, weight, tensors[f"{name}.b"], padding=(weight.shape[-1] - 1) // 2)


def published_layers(tensors, x, between):
    """Every layer of one published network, from its description: name -> output, in order."""
    layers = {"input": conv(tensors, "blocks.input", x)}
    x = layers["input"]
    for group in range(1, 5):
        for block in range(1, 3):
            name, residual = f"blocks.group_{group}.block_{block}", x
            for number in range(1, 5):
                residual = conv(tensors, f"{name}.res_path.conv_{number}", functional.relu(residual))
            identity = conv(tensors, f"{name}.id_path", x) if f"{name}.id_path.w" in tensors else x
            x = identity + residual / 64  # 1 / (4 groups x 2 blocks)^2
            layers[f"{group}.{block}"] = x
        if group < 4:
            x = between(x)
    layers["output"] = conv(tensors, "blocks.output.conv", functional.relu(x))
    return layers


def our_layers(network, x):
    """The same of ours, by hooks."""
    layers = {}

    def keep(name):
        return lambda module, inputs, output: layers.update({name: output})

    hooks = [network.output.register_forward_hook(keep("output"))]
    if isinstance(network, DVAEEncoder):
        hooks.append(network.input.register_forward_hook(keep("input")))
    for number, group in enumerate(network.groups, 1):
        hooks += [block.register_forward_hook(keep(f"{number}.{place}")) for place, block in enumerate(group, 1)]
    network(x)
    for hook in hooks:
        hook.remove()
    return layers


def pooled(x):
    """The largest of each 2x2 square."""
    return x.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).amax((-1, -3))


def doubled(x):
    """Each value four times."""
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


def test_the_encoder_is_the_published_one_layer_by_layer(loaded, tensors, maskige):
    expected = published_layers(tensors["encoder"], 0.8 * maskige + 0.1, pooled)
    found = our_layers(loaded.encoder, maskige)
    assert found.keys() == expected.keys()
    for name, output in expected.items():
        torch.testing.assert_close(found[name], output, rtol=1e-5, atol=1e-6, msg=name)
    assert found["output"].shape == (6, 12, 4, 6)


def test_the_decoder_is_the_published_one_layer_by_layer(loaded, tensors, maskige):
    tokens = loaded.encode(maskige)
    one_hot = functional.one_hot(tokens, 12).movedim(-1, 1).float()
    expected = published_layers(tensors["decoder"], one_hot, doubled)
    codes = loaded.decoder.codebook(tokens).movedim(-1, 1)
    torch.testing.assert_close(codes + loaded.decoder.code_bias[:, None, None], expected.pop("input"))
    found = our_layers(loaded.decoder, codes)
    assert found.keys() == expected.keys()
    for name, output in expected.items():
        torch.testing.assert_close(found[name], output, rtol=1e-4, atol=1e-5, msg=name)
    picture = (((1 / (1 + (-expected["output"][:, :3]).exp())) - 0.1) / 0.8).clip(0, 1)
    torch.testing.assert_close(loaded.decode(tokens).maskige, picture, rtol=1e-5, atol=1e-6)
    assert (picture == 0).any()
    assert (picture == 1).any()


def test_tokens_are_the_likeliest_of_the_encoder(loaded, tensors, maskige):
    scores = published_layers(tensors["encoder"], 0.8 * maskige + 0.1, pooled)["output"]
    tokens = loaded.encode(maskige)
    assert tokens.dtype == torch.int64
    assert tokens.equal(scores.argmax(1))
    assert len(tokens.unique()) > 1


def test_certain_tokens_decode_expectedly_as_they_decode(loaded, maskige):
    tokens = loaded.encode(maskige)
    certain = functional.one_hot(tokens, 12).movedim(-1, 1).float()
    torch.testing.assert_close(loaded.decode_expected(certain).maskige, loaded.decode(tokens).maskige)


def test_uncertain_tokens_decode_as_the_published_first_convolution_mixes_them(loaded, tensors):
    token_probs = torch.rand(2, 12, 3, 5, generator=torch.Generator().manual_seed(0)).softmax(1)
    mixed = published_layers(tensors["decoder"], token_probs, doubled)["output"][:, :3]
    picture = ((mixed.sigmoid() - 0.1) / 0.8).clip(0, 1)
    torch.testing.assert_close(loaded.decode_expected(token_probs).maskige, picture, rtol=1e-5, atol=1e-6)
    assert loaded.decode_expected(token_probs).class_probs is None


def test_gradients_pass_the_decoder_as_they_pass_the_published_one(loaded, tensors):
    token_probs = torch.rand(2, 12, 2, 3, generator=torch.Generator().manual_seed(1)).softmax(1)
    found, expected = token_probs.clone().requires_grad_(), token_probs.clone().requires_grad_()
    loaded.decode_expected(found).maskige.square().sum().backward()
    mixed = published_layers(tensors["decoder"], expected, doubled)["output"][:, :3]
    ((mixed.sigmoid() - 0.1) / 0.8).clip(0, 1).square().sum().backward()
    torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-6)
    assert found.grad.abs().max() > 1e-3


def test_the_published_sizes_have_the_published_numbers_of_parameters():
    with torch.device("meta"):
        encoder, decoder = DVAEEncoder(DVAELayout()), DVAEDecoder(DVAELayout())
    assert sum(weight.numel() for weight in encoder.parameters()) == 53_786_240
    assert sum(weight.numel() for weight in decoder.parameters()) == 43_829_766


def test_usage_is_counted_over_labelled_cells_of_the_first_pictures(folder, palette, transform, labels):
    dvae = DalleDVAE(str(folder / "dalle.safetensors"), usage_pictures=3, **SIZES)
    holed = labels.clone()
    holed[0, :16, :24] = 255  # two by three whole cells
    holed[1, 1:] = 255  # a row of labelled pixels in the uppermost cells
    told = []
    maskiges = (transform.paint(holed[start : start + 2]) for start in (0, 2, 4))
    dvae.fit(maskiges, palette.colours, palette.ignore_colour, told.append)
    tokens = dvae.encode(transform.paint(holed[:3]))
    kept = torch.cat([tokens[0, :2, 3:].flatten(), tokens[0, 2:].flatten(), tokens[1, 0], tokens[2].flatten()])
    counts = torch.tensor([(kept == token).sum() + 0.5 for token in range(12)])
    torch.testing.assert_close(dvae.log_usage().exp(), counts / counts.sum())
    assert told == [2, 3]
    assert len(list(maskiges)) == 1  # the third batch was not painted


def test_everything_travels_with_the_weights_and_needs_no_file(loaded, maskige):
    fresh = DalleDVAE("nowhere.safetensors", **SIZES)
    fresh.load_state_dict(loaded.state_dict())
    tokens = loaded.encode(maskige)
    assert fresh.encode(maskige).equal(tokens)
    assert copy.deepcopy(fresh).decode(tokens).maskige.equal(loaded.decode(tokens).maskige)
    assert not any(weight.requires_grad for weight in fresh.parameters())


def test_mixed_precision_changes_no_token(loaded, maskige):
    token_probs = torch.rand(1, 12, 2, 3).softmax(1)
    with torch.autocast("cpu", torch.bfloat16):
        tokens, decoded = loaded.encode(maskige), loaded.decode_expected(token_probs)
    assert tokens.equal(loaded.encode(maskige))
    assert decoded.maskige.dtype == torch.float32


def test_without_weights_one_sentence_says_how_to_get_them(maskige, palette):
    dvae = DalleDVAE(**SIZES)
    wanted = ("encoder.pkl", "decoder.pkl", "https://cdn.openai.com/dall-e/", "python -m gss.convert dalle FOLDER")
    for use in (
        lambda: dvae.fit([maskige], palette.colours, palette.ignore_colour),
        lambda: dvae.encode(maskige),
        lambda: dvae.decode(torch.zeros(1, 2, 2, dtype=torch.int64)),
        lambda: dvae.decode_expected(torch.ones(1, 12, 2, 2) / 12),
        DalleDVAE("nowhere.safetensors", **SIZES).load_weights,
    ):
        with pytest.raises(ValueError, match=r"tokenizer=dalle needs OpenAI's dVAE") as caught:
            use()
        assert all(part in str(caught.value) for part in wanted)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocab_size": 20}, r"tokenizer\.vocab_size is 12 in the weights but 20 in the configuration"),
        ({"hidden": 12, "code_dim": 7}, r"tokenizer\.hidden is 8 .* but 12 .*tokenizer\.code_dim is 6 .* but 7"),
        ({"sha256": {"encoder": "0" * 64}}, r"encoder\.pkl has SHA-256 .* but tokenizer\.sha256 expects 0{64}"),
        ({"sha256": {"coder": "0" * 64}}, r"tokenizer\.sha256 names 'coder': give sums for encoder and decoder"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_both_values(folder, settings, message):
    with pytest.raises(ValueError, match=message):
        DalleDVAE(str(folder / "dalle.safetensors"), **{**SIZES, **settings}).load_weights()


def test_weights_of_the_expected_files_are_taken(folder):
    sums = {part: hashlib.sha256((folder / f"{part}.pkl").read_bytes()).hexdigest() for part in ("encoder", "decoder")}
    DalleDVAE(str(folder / "dalle.safetensors"), sha256=sums, **SIZES).load_weights()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stride": 4}, r"tokenizer\.stride=4: .*published stride 8"),
        ({"hidden": 6}, r"tokenizer\.hidden=6 must be a multiple of 4"),
        ({"usage_pictures": 0}, r"tokenizer\.usage_pictures=0 must be at least 1"),
        ({"num_blocks": 0}, r"tokenizer\.num_blocks=0 must be at least 1"),
    ],
)
def test_sizes_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DalleDVAE(**{**SIZES, **settings})


def test_a_flipped_bit_and_other_files_are_noticed(folder, tmp_path):
    content = bytearray((folder / "dalle.safetensors").read_bytes())
    content[-3] ^= 1
    path = tmp_path / "dalle.safetensors"
    for damaged, message in (
        (content, "is damaged: its tensors do not have the recorded SHA-256"),
        (content[:100], r"cannot be read"),
        ((folder / "encoder.pkl").read_bytes(), r"cannot be read"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"tokenizer\.weights=.*{message}"):
            DalleWeights.load(path)


def test_a_size_that_does_not_divide_is_refused(loaded):
    with pytest.raises(ValueError, match=r"30x32 does not divide into tokens of stride 8"):
        loaded.encode(torch.rand(1, 3, 30, 32))


def test_scores_over_tokens_are_the_encoders_and_pass_gradients_to_the_maskige(loaded, maskige):
    picture = maskige.clone().requires_grad_()
    logits = loaded.token_logits(picture)
    assert logits.shape == (6, 12, 4, 6)
    assert logits.argmax(1).equal(loaded.encode(maskige))
    logits.square().mean().backward()
    assert picture.grad.flatten(1).abs().sum(1).gt(0).all()
