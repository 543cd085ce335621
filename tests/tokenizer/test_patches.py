from __future__ import annotations

import numpy as np
import pytest
import torch

from gss.assembly.build import build_tokenizer
from gss.maskige.inverse import SoftDistance
from gss.pipeline import MaskigeAutoencoder
from gss.tokenizer.patches import PatchDictionary


def cells(picture, stride):
    """Cut (C, H, W) into {(row, column): (C, stride, stride)}."""
    rows, columns = picture.shape[1] // stride, picture.shape[2] // stride
    cut = {}
    for row, column in np.ndindex(rows, columns):
        top, left = row * stride, column * stride
        cut[row, column] = picture[:, top : top + stride, left : left + stride]
    return cut


def costs(cell, dictionary, transform, weights):
    """What each code would cost a cell (3, s, s): both classes' weights wherever a labelled pixel is shown wrong."""
    true = transform.unpaint(cell[None])[0]
    shown = dictionary.class_probs.argmax(1)
    labelled = (true != 255).nonzero().tolist()
    return [
        sum(weights[true[y, x]] + weights[code[y, x]] for y, x in labelled if true[y, x] != code[y, x])
        for code in shown
    ]


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("class_balance", [0.0, 1.0])
def test_tokens_are_the_codes_of_least_cost_over_labelled_pixels(
    fit, transform, labels, draw_labels, ignored, class_balance
):
    dictionary = fit(class_balance=class_balance)
    shares = np.bincount(labels.flatten().numpy(), minlength=5) / labels.numel()
    weights = shares**-class_balance / (shares ** (1 - class_balance)).sum()
    maskige = transform.paint(draw_labels(2, (16, 24), 5, seed=7, ignored=ignored))
    tokens = dictionary.encode(maskige)
    assert tokens.shape == (2, 4, 6)
    for picture in range(2):
        for (row, column), cell in cells(maskige[picture], 4).items():
            cost = costs(cell, dictionary, transform, weights)
            assert cost[tokens[picture, row, column]] == pytest.approx(min(cost), abs=1e-4)


def test_a_token_remembers_the_classes_of_its_cluster(fit, transform, labels):
    """With a code for each distinct patch a cluster is one patch: probabilities are 0 or 1, shares are counts."""
    dictionary = fit(vocab_size=10_000)
    seen = [tuple(cell.flatten().tolist()) for picture in labels for cell in cells(picture[None], 4).values()]
    assert dictionary.vocab_size == len(set(seen))
    for token in range(dictionary.vocab_size):
        patch = dictionary.class_probs[token].argmax(0)
        one_hot = torch.nn.functional.one_hot(patch, 5).movedim(-1, 0).float()
        assert dictionary.class_probs[token].equal(one_hot)
        share = seen.count(tuple(patch.flatten().tolist())) / len(seen)
        assert dictionary.log_usage()[token].exp().item() == pytest.approx(share, rel=1e-4)


def test_shares_and_class_distributions_sum_to_one(fit):
    dictionary = fit(vocab_size=7)
    assert dictionary.class_probs.shape == (7, 5, 4, 4)
    torch.testing.assert_close(dictionary.class_probs.sum(1), torch.ones(7, 4, 4))
    assert dictionary.log_usage().exp().sum().item() == pytest.approx(1)


def test_decoded_pixels_have_the_exact_colour_of_the_likeliest_class(fit, transform):
    dictionary = fit()
    tokens = torch.randint(16, (2, 3, 5), generator=torch.Generator().manual_seed(0))
    decoded = dictionary.decode(tokens)
    assert decoded.maskige.equal(transform.paint(decoded.class_probs.argmax(1)))
    for picture, row, column in np.ndindex(2, 3, 5):
        block = decoded.class_probs[picture, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert block.equal(dictionary.class_probs[tokens[picture, row, column]])


def test_certain_tokens_decode_expectedly_as_they_decode(fit):
    dictionary = fit()
    tokens = torch.randint(16, (2, 3, 5), generator=torch.Generator().manual_seed(0))
    certain = torch.nn.functional.one_hot(tokens, 16).movedim(-1, 1).float()
    assert dictionary.decode_expected(certain).class_probs.equal(dictionary.decode(tokens).class_probs)


def test_uncertain_tokens_decode_to_the_mean_of_what_they_decode_to(fit, palette):
    dictionary = fit()
    token_probs = torch.rand(1, 16, 2, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    decoded = dictionary.decode_expected(token_probs)
    expected = sum(
        dictionary.decode(torch.full((1, 2, 3), token)).class_probs
        * token_probs[:, token].repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
        for token in range(16)
    )
    torch.testing.assert_close(decoded.class_probs, expected)
    colour = (decoded.class_probs[0, :, 5, 9, None] * palette.colours).sum(0)
    torch.testing.assert_close(decoded.maskige[0, :, 5, 9], colour)


def test_a_code_for_each_distinct_patch_loses_nothing(fit, transform, labels):
    autoencoder = MaskigeAutoencoder(transform, fit(vocab_size=10_000), SoftDistance())
    assert autoencoder.reconstruct(labels).labels().equal(labels)


def test_more_codes_never_raise_the_pixel_error(fit, transform, labels):
    errors = []
    for vocab_size in (1, 8, 64):
        autoencoder = MaskigeAutoencoder(transform, fit(vocab_size, count_power=1.0), SoftDistance())
        errors.append((autoencoder.reconstruct(labels).labels() != labels).sum().item())
    assert errors[0] > errors[1] > errors[2]


def test_an_unlabelled_cell_gets_a_token_too(fit, transform):
    tokens = fit().encode(transform.paint(torch.full((1, 8, 8), 255)))
    assert tokens.min() >= 0
    assert tokens.max() < 16


def test_a_partly_labelled_cell_gets_the_patch_of_its_labelled_part(fit, transform, labels):
    dictionary = fit(vocab_size=10_000)
    halved = labels.clone()
    halved[:, :, ::4] = 255  # the first column of every cell
    decoded = dictionary.decode(dictionary.encode(transform.paint(halved))).class_probs.argmax(1)
    assert decoded[halved != 255].equal(labels[halved != 255])


def test_ignored_patches_are_not_learnt(fit, labels):
    holed = labels.clone()
    holed[:, 1::4] = 255  # a pixel row in every cell of the upper half stays labelled nowhere
    holed[:, 16:] = labels[:, 16:]
    lower = fit(vocab_size=10_000, to=labels[:, 16:])
    torch.testing.assert_close(fit(vocab_size=10_000, to=holed).class_probs, lower.class_probs)


def test_blocks_of_the_table_leave_out_zeros_only(fit, transform, labels):
    """Also where a class is shown by no patch, and in a dictionary that was loaded."""
    fitted, loaded = fit(to=labels.clamp(max=3)), PatchDictionary(stride=4, vocab_size=16)
    loaded.load_state_dict(fitted.state_dict())
    for dictionary in (fitted, loaded):
        table = torch.cat(
            [torch.zeros(16, 16).index_copy(0, tokens, entries) for tokens, entries in dictionary.code_blocks], dim=1
        )
        assert table.equal(dictionary.code_table)
        sizes = [len(tokens) for tokens, _ in dictionary.code_blocks]
        assert sizes == [int(dictionary.class_probs[:, k].flatten(1).any(1).sum()) for k in range(5)]
        assert sizes[4] == 0


def test_a_fresh_dictionary_takes_sizes_and_answers_from_the_weights(fit, transform, labels):
    dictionary, fresh = fit(vocab_size=9), PatchDictionary(stride=4, vocab_size=1024)
    fresh.load_state_dict(dictionary.state_dict())
    maskige = transform.paint(labels)
    assert fresh.vocab_size == 9
    assert fresh.encode(maskige).equal(dictionary.encode(maskige))
    tokens = dictionary.encode(maskige)
    assert fresh.decode(tokens).class_probs.equal(dictionary.decode(tokens).class_probs)


def test_a_dictionary_from_before_mistakes_had_weights_counts_all_pixels_alike(fit, transform, labels):
    dictionary, fresh = fit(class_balance=0.0), PatchDictionary(stride=4)
    state = dictionary.state_dict()
    del state["mistake_weights"]
    fresh.load_state_dict(state)
    maskige = transform.paint(labels)
    assert fresh.encode(maskige).equal(dictionary.encode(maskige))


@pytest.mark.parametrize("missing", ["colours", "class_probs", "log_frequency"])
def test_weights_of_a_dictionary_do_not_hide_what_is_missing(fit, missing):
    state = fit().state_dict()
    del state[missing]
    with pytest.raises(RuntimeError, match=rf"Missing key.*{missing}"):
        PatchDictionary(stride=4).load_state_dict(state)


def test_the_fit_depends_on_the_seed_and_not_on_the_order_of_the_pictures(fit, labels):
    assert fit(to=labels.flip(0)).class_probs.equal(fit().class_probs)
    assert not fit(40, seed=1).class_probs.equal(fit(40).class_probs)


def test_the_most_frequent_patches_are_kept_when_there_are_too_many(fit, labels):
    seen = [tuple(cell.flatten().tolist()) for picture in labels for cell in cells(picture[None], 4).values()]
    counts = sorted((seen.count(patch) for patch in set(seen)), reverse=True)
    kept = fit(vocab_size=100, max_patches=6)
    assert kept.vocab_size == 6
    shares = sorted(kept.log_usage().exp().tolist(), reverse=True)
    assert shares == pytest.approx([count / sum(counts[:6]) for count in counts[:6]], rel=1e-4)


def test_mixed_precision_changes_no_token_and_no_probability(fit, transform, labels):
    generator = torch.Generator().manual_seed(0)
    flipped = torch.rand(labels.shape, generator=generator) < 0.05  # patches that differ in one pixel
    noisy = torch.where(flipped, torch.randint(5, labels.shape, generator=generator), labels)
    dictionary, maskige = fit(vocab_size=40, to=noisy), transform.paint(noisy)
    token_probs = torch.rand(1, dictionary.vocab_size, 2, 3, generator=generator).softmax(1)
    with torch.autocast("cpu", torch.bfloat16):
        tokens, decoded = dictionary.encode(maskige), dictionary.decode_expected(token_probs)
    assert tokens.equal(dictionary.encode(maskige))
    assert decoded.class_probs.equal(dictionary.decode_expected(token_probs).class_probs)
    assert decoded.maskige.dtype == torch.float32


def test_colours_of_another_palette_are_refused(fit, transform, labels):
    maskige = transform.paint(labels)
    maskige[0, 0, 3, 3] = 0.123
    with pytest.raises(ValueError, match=r"tokenizer=patches.*exact colours.*paint labels with the palette"):
        fit().encode(maskige)


@pytest.mark.parametrize("size", [(30, 32), (32, 30)])
def test_a_size_that_does_not_divide_is_refused(fit, transform, draw_labels, palette, size):
    maskige = transform.paint(draw_labels(1, size, 5))
    message = rf"{size[0]}x{size[1]} does not divide into tokens of stride 4: choose data\.size"
    with pytest.raises(ValueError, match=message):
        fit().encode(maskige)
    with pytest.raises(ValueError, match=message):
        PatchDictionary(stride=4).fit([maskige], palette.colours, palette.ignore_colour)


def test_labels_without_one_whole_patch_are_refused_with_the_keys(palette, transform):
    holed = torch.zeros(1, 8, 8, dtype=torch.int64)
    holed[:, ::4, ::4] = 255
    with pytest.raises(ValueError, match=r"no patch of 4x4 pixels.*tokenizer\.stride.*data\.label_space"):
        PatchDictionary(stride=4).fit([transform.paint(holed)], palette.colours, palette.ignore_colour)


def test_an_unknown_tokenizer_is_refused_with_those_there_are():
    with pytest.raises(
        ValueError, match=r"unknown tokenizer\.name='mosaic': one of patches, patches_context, vqvae, dalle"
    ):
        build_tokenizer("mosaic", stride=8)


def test_a_cell_without_labels_gets_the_commonest_token(fit, transform):
    dictionary = fit()
    nothing = transform.paint(torch.full((1, 8, 8), 255))
    assert (dictionary.encode(nothing) == dictionary.log_usage().argmax()).all()
    assert dictionary.log_usage().diff().max() <= 0
