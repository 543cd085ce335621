"""What the rows with networks share: an experiment's configuration, and drawn scenes in its classes."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from gss.assembly.build import build_autoencoder, build_palette, describe_prior
from gss.cli.configuration import config_dir, instantiate, register_resolvers, to_plain
from gss.data.cityscapes import LABEL_IDS
from gss.data.scenes import draw_scene
from gss.labels import IGNORE, LabelSpace
from gss.pipeline import MaskigeAutoencoder

CAMVID = {  # class of CamVid -> classes of Cityscapes, in which scenes are drawn
    "sky": "sky",
    "building": "building, wall",
    "pole": "pole",
    "road": "road",
    "sidewalk": "sidewalk, terrain",
    "tree": "vegetation",
    "sign": "traffic sign, traffic light",
    "fence": "fence",
    "car": "car, truck, bus, train",
    "pedestrian": "person",
    "bicyclist": "rider, bicycle, motorcycle",
}


def experiment(name: str, *overrides: str) -> dict[str, Any]:
    """An experiment's resolved configuration as plain data; `paths.run` is left for the caller to set."""
    register_resolvers()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return to_plain(compose("config", [f"experiment={name}", "paths.run=unset", *overrides]))


def label_space(config: dict[str, Any]) -> LabelSpace:
    """The classes of a configuration."""
    found: LabelSpace = instantiate(config["data"]["label_space"])
    return found


@cache
def drawn_scenes(number: int, size: tuple[int, int], names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) float32 in [0, 1] and labels (N, H, W) int64 in CamVid's classes or 255."""
    table = torch.full((256,), IGNORE)
    for train_id, name in enumerate(names):
        table[[LABEL_IDS[drawn] for drawn in CAMVID[name].split(", ")]] = train_id
    scenes = [draw_scene(0, index, size) for index in range(number)]
    image = torch.from_numpy(np.stack([image for image, _ in scenes])).movedim(-1, 1).float() / 255
    ids = torch.from_numpy(np.stack([ids for _, ids in scenes])).long()
    return image.contiguous(), table[ids]


def random_autoencoder(config: dict[str, Any]) -> MaskigeAutoencoder:
    """Stage one of a configuration with random weights, in evaluation mode."""
    classes = label_space(config)
    autoencoder = build_autoencoder(describe_prior(config, classes), build_palette(config, classes))
    autoencoder.load_state_dict(autoencoder.state_dict())  # the dVAE refuses to work before weights were loaded
    return autoencoder.eval()


def fitted_autoencoder(config: dict[str, Any], labels: Tensor) -> MaskigeAutoencoder:
    """Stage one of a configuration, its dictionary fitted to labels (N, H, W) int64."""
    classes = label_space(config)
    autoencoder = build_autoencoder(describe_prior(config, classes), build_palette(config, classes))
    transform = autoencoder.transform
    autoencoder.tokenizer.fit([transform.paint(labels)], transform.colours, transform.ignore_colour)
    vocab_size, wanted = autoencoder.tokenizer.vocab_size, config["tokenizer"]["vocab_size"]
    assert vocab_size == wanted, f"{len(labels)} scenes fill only {vocab_size} of {wanted} codes"
    return autoencoder
