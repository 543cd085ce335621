"""Image to labels: generation through tokens against the pixel twin.

The networks are those of experiment=camvid_cpu and experiment=camvid_cpu_pixel, whose backbone is the smallest that is
configured, and the same with the default backbone. The dictionary is fitted to drawn labels. The network learns from
those scenes for a moment, since how many classes `expected` averages depends on how sure it is: random weights are sure
everywhere, of the commonest class.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from bench.harness import FULL, Effort, Row, time_in_turn
from bench.scenes import drawn_scenes, experiment, fitted_autoencoder, label_space
from gss.assembly.build import build_segmenter
from gss.objectives.conditioning import pixel_loss
from gss.objectives.divergence import token_divergence
from gss.objectives.targets import TokenTargets
from gss.pipeline import GENERATIVE_READOUTS, PIXEL_READOUT, GenerativeSegmenter

NUM_SCENES = 24  # enough distinct patches for 1024 codes
STEPS, SCENES_PER_STEP, LEARNING_RATE = 40, 4, 2e-3
BAR = 1 / 1.15  # at most 15 % more than the twin's time
ROUNDS = 10  # times as many as for other rows: a call takes 40 ms, and single ones vary by half
BACKBONES = {"generation": (), "generation_resnet18": ("backbone=resnet18", "backbone.pretrained=false")}


def measure(effort: Effort) -> list[Row]:
    """Both generative readouts on one image, each against the twin, for every backbone."""
    return [row for name, overrides in BACKBONES.items() for row in _measure(name, overrides, effort)]


def _measure(name: str, overrides: tuple[str, ...], effort: Effort) -> list[Row]:
    config, twin_config = experiment("camvid_cpu", *overrides), experiment("camvid_cpu_pixel", *overrides)
    classes = label_space(config)
    images, labels = drawn_scenes(NUM_SCENES, tuple(config["data"]["size"]), classes.names)
    torch.manual_seed(0)
    generator = build_segmenter(config, classes.num_classes, fitted_autoencoder(config, labels)).eval()
    twin = build_segmenter(twin_config, classes.num_classes, None).eval()
    train(generator, images, labels, STEPS if effort.repeats >= FULL.repeats else 1)
    image, effort = images[:1], replace(effort, repeats=ROUNDS * effort.repeats)
    with torch.inference_mode():
        _assert_alike(generator, twin, image)
        return [
            time_in_turn(
                f"{name}_{readout}",
                partial(_labels, generator, image, readout),
                partial(_labels, twin, image, PIXEL_READOUT),
                BAR,
                effort,
            )
            for readout in GENERATIVE_READOUTS
        ]


def train(generator: GenerativeSegmenter, images: Tensor, labels: Tensor, steps: int) -> None:
    """A few steps of both losses on images (N, 3, H, W) float32 in [0, 1] and labels (N, H, W) int64."""
    autoencoder, network = generator.autoencoder, generator.network
    assert autoencoder is not None
    tokens = autoencoder.encode(labels)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    generator.train()
    for step in range(steps):
        some = (SCENES_PER_STEP * step + torch.arange(SCENES_PER_STEP)) % len(images)
        output = network(images[some])
        assert output.prior is not None
        targets = TokenTargets(tokens[some], torch.ones_like(tokens[some], dtype=torch.bool))
        loss = token_divergence(output.prior, targets) + pixel_loss(output.pixel_logits, labels[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    generator.eval()


def _labels(segmenter: GenerativeSegmenter, image: Tensor, readout: str) -> Tensor:
    labels: Tensor = segmenter(image, readout).labels()
    return labels


def _assert_alike(generator: GenerativeSegmenter, twin: GenerativeSegmenter, image: Tensor) -> None:
    """Holds the two to one network but for the token head, and every readout to full-size class probabilities."""
    weights = generator.network.state_dict()
    twin.network.load_state_dict({name: weights[name] for name in weights if not name.startswith("token_head.")})
    scores, twin_scores = (s.network(image).class_scores for s in (generator, twin))
    assert torch.equal(scores, twin_scores), "generator and twin are not the same network but for the token head"
    expected = twin(image, PIXEL_READOUT).class_probs()
    for readout in GENERATIVE_READOUTS:
        class_probs = generator(image, readout).class_probs()
        assert class_probs.shape == expected.shape, f"{readout} gives {class_probs.shape}"
        torch.testing.assert_close(class_probs.sum(1), expected.sum(1))
