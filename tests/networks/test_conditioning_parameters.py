"""The published heads have as many trainable parameters as their description says, counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gss.assembly.build
from gss.cli.configuration import to_plain

LEVELS = {  # channels of the backbones' levels, depth of the fusion, parameters as printed, in millions
    "swin_large": ((192, 384, 768, 1536), 2, 23.9),
    "resnet101": ((256, 512, 1024, 2048), 6, 32.7),
    "hrnet_w48": ((48, 96, 192, 384), 6, 31.5),
}
NUM_CLASSES, VOCAB = 19, 8192


def normalised(width):
    """Scale and shift of BatchNorm or LayerNorm."""
    return 2 * width


def token_path(levels, depth):
    """Section 3.1 of the paper and the released configurations, term by term."""
    reduce = sum(levels) * 384 + len(levels) * normalised(384)  # 1x1 of each level without bias, BatchNorm
    fuse = len(levels) * 384 * 512 + normalised(512)  # 1x1 of their concatenation
    attention = (
        normalised(512)
        + 512 * 3 * 512  # queries, keys, values
        + 3 * 512  # and their biases
        + (2 * 7 - 1) ** 2 * 16  # a bias for each relative position in a window of 7, in each of 16 heads
        + 512 * 512  # projection
        + 512
    )
    feed_forward = normalised(512) + (512 * 1024 + 1024) + (1024 * 512 + 512)
    blocks = depth * (attention + feed_forward) + normalised(512)  # LayerNorm after the last
    widen = 512 * 2048 + normalised(2048)  # 1x1 without bias, BatchNorm
    scores = 2048 * VOCAB + VOCAB  # 1x1 with bias
    return reduce + fuse + blocks + widen + scores


def auxiliary(levels):
    """The pixel head of the release: its own 1x1 of each level, and of their concatenation, and 1x1 to the classes."""
    reduce = sum(levels) * 384 + len(levels) * normalised(384)
    fuse = len(levels) * 384 * 384 + normalised(384)
    return reduce + fuse + 384 * NUM_CLASSES + NUM_CLASSES


class FakeBackbone(nn.Module):
    """Channels and nothing else."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels


class FakeAutoencoder(nn.Module):
    """A vocabulary and nothing else."""

    def __init__(self):
        super().__init__()
        self.tokenizer = nn.Identity()
        self.tokenizer.vocab_size = VOCAB


@pytest.mark.parametrize("name", LEVELS)
def test_the_published_heads_have_the_published_number_of_parameters(compose_run, tmp_path, monkeypatch, name):
    levels, depth, printed = LEVELS[name]
    choices = ["head=paper", "fusion=paper", f"fusion.depth={depth}", "tokenizer=dalle", "maskige.scale=2"]
    config = to_plain(compose_run(tmp_path, "stage=conditioning", *choices))
    monkeypatch.setattr(gss.assembly.build, "TimmBackbone", lambda **settings: FakeBackbone(levels))
    with torch.device("meta"):
        network = gss.assembly.build.build_segmenter(config, NUM_CLASSES, FakeAutoencoder()).network
    counts = {
        part: sum(weight.numel() for weight in module.parameters() if weight.requires_grad)
        for part, module in network.named_children()
    }
    assert counts["fusion"] + counts["token_head"] == token_path(levels, depth)
    assert counts["pixel_head"] == auxiliary(levels)
    assert round(token_path(levels, depth) / 1e6, 1) == printed
