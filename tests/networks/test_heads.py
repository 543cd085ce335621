from __future__ import annotations

import torch

from gss.networks.heads import FreeTokenHead, TiedTokenHead


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_tied_scores_are_the_evidence_times_what_each_token_decodes_to():
    """score_t(cell) = sum over classes k and pixels y, x of u_k(y, x) * p_t(k, y, x), plus b_t."""
    codes, log_frequency = draw(7, 3, 2, 2).softmax(1), draw(7).log_softmax(0)
    head, features = TiedTokenHead(5, codes, log_frequency), draw(2, 5, 4, 6, seed=1)
    torch.nn.init.normal_(head.evidence)
    evidence = torch.einsum("dc,bcij->bdij", head.evidence, features)
    u = 8 / 2**2 * torch.nn.functional.pixel_shuffle(evidence, 2)  # (B, K, H, W): class scores per pixel
    expected = torch.empty(2, 7, 4, 6)
    for token in range(7):
        for row in range(4):
            for column in range(6):
                cell = u[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                expected[:, token, row, column] = (cell * codes[token]).sum((1, 2, 3)) + log_frequency[token]
    torch.testing.assert_close(head(features).logits(), expected, rtol=1e-4, atol=1e-4)


def test_tied_scores_begin_near_the_log_frequencies():
    log_frequency = draw(7).log_softmax(0)
    scores = TiedTokenHead(5, draw(7, 3, 4, 4).softmax(1), log_frequency)(draw(1, 5, 3, 3)).logits()
    torch.testing.assert_close(scores, log_frequency[None, :, None, None].expand(1, 7, 3, 3), atol=1.0, rtol=0)


def test_tokens_that_decode_alike_share_their_evidence():
    codes = draw(2, 3, 2, 2).softmax(1)[[0, 1, 1]]
    head = TiedTokenHead(5, codes, torch.zeros(3))
    scores = head(draw(1, 5, 4, 4)).logits()
    torch.testing.assert_close(scores[:, 1], scores[:, 2])
    assert not torch.allclose(scores[:, 0], scores[:, 1])


def test_the_dictionary_of_a_tied_head_is_neither_trained_nor_saved():
    head = TiedTokenHead(5, draw(7, 3, 2, 2).softmax(1), torch.zeros(7))
    assert {name for name, _ in head.named_parameters()} == {"evidence", "bias"}
    assert set(head.state_dict()) == {"evidence", "bias"}


def test_a_weight_that_is_kept_follows_whatever_becomes_of_w():
    """As when averaged weights take the place of trained ones, or a checkpoint is loaded."""
    torch.manual_seed(0)
    head, features = TiedTokenHead(5, draw(7, 3, 2, 2).softmax(1), torch.zeros(7)).eval(), draw(2, 5, 4, 6)
    with torch.no_grad():
        kept = head(features)
        assert head(features).weight is kept.weight
        head.evidence.data.copy_(draw(*head.evidence.shape, seed=4))
        changed = head(features).logits()
    with torch.enable_grad():
        torch.testing.assert_close(changed, head(features).logits())
        assert head(features).weight.requires_grad


def test_free_scores_are_a_1x1_convolution_to_the_vocabulary():
    head, features = FreeTokenHead(5, vocab_size=9, hidden=8).eval(), draw(2, 5, 4, 6)
    scores = head(features).logits()
    assert scores.shape == (2, 9, 4, 6)
    torch.testing.assert_close(head(features[:, :, 1:2, 3:4]).logits(), scores[:, :, 1:2, 3:4])


def test_pixel_evidence_is_the_enlarged_class_scores_times_what_each_token_decodes_to():
    """The folded 3x3 convolution equals the sum over pixels, at the border too."""
    codes, class_scores = draw(7, 3, 4, 4).softmax(1), draw(2, 3, 5, 6, seed=1)
    enlarged = torch.nn.functional.interpolate(class_scores, scale_factor=4, mode="bilinear", align_corners=False)
    expected = torch.einsum("bkhywx,tkyx->bthw", enlarged.unflatten(3, (6, 4)).unflatten(2, (5, 4)), codes)
    features = torch.zeros(2, 5, 5, 6)
    head = TiedTokenHead(5, codes, torch.zeros(7), pixel_evidence=True)
    torch.testing.assert_close(head(features, class_scores).logits() / head.pixel_gain, expected, rtol=1e-4, atol=1e-4)
