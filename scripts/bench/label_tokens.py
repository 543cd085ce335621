"""Labels to tokens: the patch dictionary and the VQ-VAE against the encoder of OpenAI's dVAE.

All three paint the same labels and give a grid of one token per 8x8 pixels. The dictionary is fitted to drawn labels;
the weights of the networks are random, which costs as much time as trained ones.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from bench.harness import Effort, Row, time_in_turn
from bench.scenes import drawn_scenes, experiment, fitted_autoencoder, label_space, random_autoencoder
from gss.pipeline import MaskigeAutoencoder

NUM_SCENES = 24  # enough distinct patches for 1024 codes
SIDE = 128  # of the pictures, cut from the scenes: the dVAE takes a second for one of them
BATCH_SIZES = (1, 8)
MOST = Effort(warm_up=1, repeats=5)  # and seconds for eight
BAR = 50.0


def measure(effort: Effort) -> list[Row]:
    """One row per tokenizer and batch size, each against the dVAE."""
    config = experiment("camvid_cpu")
    _, labels = drawn_scenes(NUM_SCENES, tuple(config["data"]["size"]), label_space(config).names)
    torch.manual_seed(0)
    other, vqvae = (random_autoencoder(experiment("camvid_cpu", f"tokenizer={name}")) for name in ("dalle", "vqvae"))
    ways = {"patches": fitted_autoencoder(config, labels), "vqvae": vqvae}
    effort = Effort(min(effort.warm_up, MOST.warm_up), min(effort.repeats, MOST.repeats))
    with torch.inference_mode():
        return [
            _row(f"tokens_{name}_{number}", ours.eval(), other, labels[:number, -SIDE:, :SIDE], effort)
            for number in BATCH_SIZES
            for name, ours in ways.items()
        ]


def _row(name: str, ours: MaskigeAutoencoder, other: MaskigeAutoencoder, labels: Tensor, effort: Effort) -> Row:
    grid = (len(labels), SIDE // 8, SIDE // 8)
    assert ours.encode(labels).shape == other.encode(labels).shape == grid, f"{name}: not one token per 8x8 pixels"
    return time_in_turn(name, partial(ours.encode, labels), partial(other.encode, labels), BAR, effort)
