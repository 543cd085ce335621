"""Learning is real: both stages, in plain loops, learn two drawn pictures by heart."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from gss.assembly.build import build_autoencoder, build_palette, build_segmenter, describe_prior
from gss.cli.configuration import to_plain
from gss.labels import LabelSpace
from gss.metrics.confusion import ConfusionMatrix, scores
from gss.objectives.conditioning import pixel_loss
from gss.objectives.divergence import token_divergence
from gss.objectives.losses import reconstruction_loss
from gss.objectives.targets import TargetEncoder
from gss.stages.optimisation import Optimisation

SMALL = (
    "stage=conditioning",
    "tokenizer.stride=4",
    "tokenizer.vocab_size=1000",
    "backbone.name=test_resnet",
    "fusion.level_channels=16",
    "fusion.channels=32",
)


LABEL_SPACE = LabelSpace.from_names(["sky", "road", "tree", "car", "sign"])


@pytest.fixture(scope="module")
def picture(draw_labels):
    """Two images of coloured rectangles in noise, (2, 3, 32, 64), their labels, some ignored."""
    coarse = draw_labels(2, (9, 17), num_classes=5, ignored=True)
    labels = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, 2:34, 1:65]  # not in line with the tokens
    shades = torch.rand(256, 3, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(2))
    return (shades[labels].movedim(-1, 1) + 0.05 * noise).clamp(0, 1), labels


@pytest.fixture(scope="module")
def config(compose_tiny, tmp_path_factory):
    """The configuration of a small network, as plain data."""
    return to_plain(compose_tiny(tmp_path_factory.mktemp("learning"), *SMALL))


def mean_iou(predicted, labels):
    matrix = ConfusionMatrix(5)
    matrix.update(predicted, labels)
    return scores(matrix.compute(), LABEL_SPACE.names).miou


def train(module, loss_of, steps, lr):
    """The steps that the stages take, without Lightning."""
    optimizer, schedule = Optimisation(partial(torch.optim.AdamW, lr=lr), steps, warmup_steps=10).build(module)
    for _ in range(steps):
        loss = loss_of()
        optimizer.zero_grad(), loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 5.0)
        optimizer.step(), schedule.step()
    module.eval()


def fitted_patches(labels, config):
    autoencoder = build_autoencoder(describe_prior(config, LABEL_SPACE), build_palette(config, LABEL_SPACE))
    transform = autoencoder.transform
    autoencoder.tokenizer.fit([transform.paint(labels)], transform.colours, transform.ignore_colour)
    return autoencoder.eval()


def test_a_dictionary_learns_a_batch_by_heart(picture, config):
    _, labels = picture
    assert mean_iou(fitted_patches(labels, config).reconstruct(labels).labels(), labels) > 0.95


def test_a_learned_tokenizer_learns_a_batch_by_heart(picture, config):
    _, labels = picture
    torch.manual_seed(0)
    small = {"name": "vqvae", "stride": 4, "vocab_size": 128, "hidden": 64, "code_dim": 8, "num_blocks": 1}
    autoencoder = build_autoencoder(
        describe_prior({**config, "tokenizer": small}, LABEL_SPACE), build_palette(config, LABEL_SPACE)
    )
    maskige = autoencoder.transform.paint(labels)

    def loss():
        result = autoencoder.tokenizer.reconstruct(maskige)
        return reconstruction_loss(result.maskige, maskige) + 0.25 * result.commitment

    train(autoencoder, loss, steps=200, lr=3e-3)
    assert mean_iou(autoencoder.reconstruct(labels).labels(), labels) > 0.95


@pytest.mark.parametrize(("token", "tie"), [("tied", "decoded"), ("tied", "codes"), ("free", "decoded")])
def test_generation_learns_a_batch_by_heart(picture, config, token, tie):
    image, labels = picture
    autoencoder = fitted_patches(labels, config)
    torch.manual_seed(0)
    head = {"token": token, "pixel": "bilinear", "hidden": 64, "tie": tie, "pixel_evidence": tie == "decoded"}
    segmenter = build_segmenter({**config, "head": head}, 5, autoencoder).train()

    def loss():
        output = segmenter.network(image)
        targets = TargetEncoder()(autoencoder, labels, output.pixel_logits)
        divergence = token_divergence(output.prior, targets)
        return 0.8 * divergence + 0.2 * pixel_loss(output.pixel_logits, labels)

    train(segmenter, loss, steps=160, lr=8e-3)
    with torch.no_grad():
        reached = {readout: mean_iou(segmenter(image, readout).labels(), labels) for readout in ("argmax", "expected")}
    assert min(reached.values()) > 0.95, reached


def test_the_pixel_twin_learns_a_batch_by_heart(picture, config):
    image, labels = picture
    torch.manual_seed(0)
    twin = build_segmenter({**config, "head": {"token": None, "pixel": "subpixel"}}, 5, None).train()
    train(twin, lambda: pixel_loss(twin.network(image).pixel_logits, labels), steps=120, lr=6e-3)
    with torch.no_grad():
        assert mean_iou(twin(image, "pixel").labels(), labels) > 0.95
