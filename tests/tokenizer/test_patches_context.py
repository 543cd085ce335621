from __future__ import annotations

import pytest
import torch

from gss.maskige.inverse import SoftDistance
from gss.objectives.losses import mistake_loss
from gss.pipeline import MaskigeAutoencoder
from gss.tokenizer.patches_context import ContextDictionary

SMALL = {"stride": 4, "vocab_size": 16, "hidden": 16, "depth": 1}


@pytest.fixture
def fresh(palette, transform, labels):
    """A dictionary of stride 4 whose network has not learned anything yet."""
    torch.manual_seed(0)
    tokenizer = ContextDictionary(**SMALL)
    tokenizer.fit([transform.paint(labels)], palette.colours, palette.ignore_colour)
    return tokenizer


@pytest.fixture(scope="session")
def trained(palette, transform, labels):
    """The same after sixty steps on the drawn maskiges."""
    torch.manual_seed(0)
    tokenizer = ContextDictionary(**SMALL)
    maskige = transform.paint(labels)
    tokenizer.fit([maskige], palette.colours, palette.ignore_colour)
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=1e-2)
    for _ in range(60):
        loss = mistake_loss(tokenizer.reconstruct(maskige).class_scores, labels, torch.ones(5))
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    return tokenizer.eval()


def wrong(tokenizer, transform, labels):
    autoencoder = MaskigeAutoencoder(transform, tokenizer, SoftDistance())
    return (autoencoder.reconstruct(labels).labels() != labels).sum().item()


def test_untrained_it_is_the_dictionary(fresh, fit, transform, labels):
    dictionary, maskige = fit(to=labels), transform.paint(labels)
    tokens = fresh.encode(maskige)
    assert tokens.equal(dictionary.encode(maskige))
    assert fresh.decode(tokens).class_probs.argmax(1).equal(dictionary.decode(tokens).class_probs.argmax(1))
    assert fresh.log_usage().equal(dictionary.log_usage())


def test_a_few_steps_mend_what_the_dictionary_gets_wrong(trained, fresh, transform, labels):
    assert wrong(trained, transform, labels) < 0.8 * wrong(fresh, transform, labels)


def test_the_dictionary_stays_as_it_was_fitted(trained, fresh, transform, labels):
    assert trained.class_probs.equal(fresh.class_probs)
    assert trained.encode(transform.paint(labels)).equal(fresh.encode(transform.paint(labels)))


def test_the_same_token_looks_different_amid_others(trained, fresh):
    doubtful = fresh.class_probs.amax(1).amin((1, 2)).argmin()  # a token that shows one class for certain stays so
    tokens = torch.full((2, 3, 3), int(doubtful))
    tokens[1, 1, 2] = 0 if doubtful else 1
    middle = trained.decode(tokens).class_probs[:, :, 4:8, 4:8]
    alone = fresh.decode(tokens).class_probs[:, :, 4:8, 4:8]
    assert not torch.allclose(middle[0], middle[1], atol=1e-5)
    assert alone[0].equal(alone[1])


def test_probabilities_sum_to_one_and_the_maskige_shows_the_likeliest(trained, transform):
    tokens = torch.randint(16, (2, 3, 5), generator=torch.Generator().manual_seed(0))
    decoded = trained.decode(tokens)
    assert decoded.class_probs.shape == (2, 5, 12, 20)
    torch.testing.assert_close(decoded.class_probs.sum(1), torch.ones(2, 12, 20))
    assert decoded.maskige.equal(transform.paint(decoded.class_probs.argmax(1)))


def test_certain_tokens_decode_expectedly_as_they_decode(trained):
    tokens = torch.randint(16, (2, 3, 5), generator=torch.Generator().manual_seed(0))
    certain = torch.nn.functional.one_hot(tokens, 16).movedim(-1, 1).float()
    torch.testing.assert_close(trained.decode_expected(certain).class_probs, trained.decode(tokens).class_probs)


def test_a_training_pass_scores_what_decoding_shows(trained, transform, labels):
    maskige = transform.paint(labels)
    result = trained.reconstruct(maskige)
    torch.testing.assert_close(result.class_scores.softmax(1), trained.decode(result.tokens).class_probs)
    assert result.maskige.equal(trained.decode(result.tokens).maskige)
    assert result.commitment.item() == 0


def test_the_gradient_reaches_the_whole_network_once_its_last_layer_has_moved(trained, transform, labels):
    mistake_loss(trained.reconstruct(transform.paint(labels)).class_scores, labels, torch.ones(5)).backward()
    assert all(weight.grad.abs().sum() > 0 for weight in trained.parameters())


def test_everything_travels_with_the_weights(trained, transform, labels):
    restored = ContextDictionary(**SMALL)
    restored.load_state_dict(trained.state_dict())
    tokens = trained.encode(transform.paint(labels))
    assert restored.encode(transform.paint(labels)).equal(tokens)
    assert restored.decode(tokens).class_probs.equal(trained.decode(tokens).class_probs)


def test_each_token_has_class_probabilities_for_stage_two(trained, transform):
    probs = MaskigeAutoencoder(transform, trained, SoftDistance()).code_class_probs()
    assert probs.shape == (16, 5, 4, 4)
    torch.testing.assert_close(probs.sum(1), torch.ones(16, 4, 4))


def test_an_odd_stride_is_refused():
    with pytest.raises(ValueError, match=r"tokenizer\.stride=3 must be even for tokenizer=patches_context"):
        ContextDictionary(stride=3)
