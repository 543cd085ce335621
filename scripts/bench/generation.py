"""Photograph to labels: generation through tokens against the pixel twin.

The networks are those of experiment=camvid_cpu and experiment=camvid_cpu_pixel. Their weights are random, which
costs as much time as trained ones; the dictionary is fitted to drawn labels.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from bench.harness import Effort, Row, time_in_turn
from bench.scenes import drawn_scenes, experiment, fitted_autoencoder, label_space
from gss.assembly import build_segmenter
from gss.pipeline import GENERATIVE_READOUTS, PIXEL_READOUT, GenerativeSegmenter

NUM_SCENES = 24  # enough distinct patches for 1024 codes
BAR = 1 / 1.15  # at most 15 % more than the twin's time


def measure(effort: Effort) -> list[Row]:
    """Both generative readouts on one photograph, each against the twin."""
    config, twin_config = experiment("camvid_cpu"), experiment("camvid_cpu_pixel")
    classes = label_space(config)
    images, labels = drawn_scenes(NUM_SCENES, tuple(config["data"]["size"]), classes.names)
    torch.manual_seed(0)
    generator = build_segmenter(config, classes.num_classes, fitted_autoencoder(config, labels)).eval()
    twin = build_segmenter(twin_config, classes.num_classes, None).eval()
    image = images[:1]
    with torch.inference_mode():
        _assert_alike(generator, twin, image)
        return [
            time_in_turn(
                f"generation_{readout}",
                partial(_labels, generator, image, readout),
                partial(_labels, twin, image, PIXEL_READOUT),
                BAR,
                effort,
            )
            for readout in GENERATIVE_READOUTS
        ]


def _labels(segmenter: GenerativeSegmenter, image: Tensor, readout: str) -> Tensor:
    labels: Tensor = segmenter(image, readout).labels
    return labels


def _assert_alike(generator: GenerativeSegmenter, twin: GenerativeSegmenter, image: Tensor) -> None:
    """Holds the two to one network up to the heads, and every readout to full-size class probabilities."""
    for part in ("backbone", "fusion"):
        getattr(twin.network, part).load_state_dict(getattr(generator.network, part).state_dict())
    grid = tuple(side // generator.network.stride for side in image.shape[-2:])
    features, twin_features = (s.network.fusion(s.network.backbone(image), grid) for s in (generator, twin))
    assert torch.equal(features, twin_features), "generator and twin are not the same network up to the heads"
    expected = twin(image, PIXEL_READOUT).class_probs
    for readout in GENERATIVE_READOUTS:
        class_probs = generator(image, readout).class_probs
        assert class_probs.shape == expected.shape, f"{readout} gives {class_probs.shape}"
        torch.testing.assert_close(class_probs.sum(1), expected.sum(1))
