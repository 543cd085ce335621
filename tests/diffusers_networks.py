"""Tiny tokenizers around networks of diffusers, and folders as save_pretrained writes them."""

from __future__ import annotations

from importlib import import_module

import torch

from gss.assembly.build import build_tokenizer

LAYERS = {"layers_per_block": 1, "norm_num_groups": 4, "mid_block_add_attention": False}
NETWORKS = {"vqgan": {**LAYERS, "latent_channels": 4}, "kl": {**LAYERS, "scaling_factor": 1.0}}
KINDS = {"vqgan": "VQModel", "kl": "AutoencoderKL"}
NAMES = tuple(NETWORKS)
WIDTHS = [8, 8, 16, 16]


def settings(name, stride=4, **more):
    network = {"block_out_channels": WIDTHS[: stride.bit_length()], **NETWORKS[name], **more.pop("network", {})}
    levels = {"levels": [4, 3]} if name == "kl" and "vocab_size" not in more else {}
    return {"name": name, "stride": stride, "vocab_size": 12, "network": network, **levels, **more}


def tokenizer_of(name, **more):
    torch.manual_seed(0)
    return build_tokenizer(**settings(name, **more))


def publish(name, path):
    """Writes a random network with save_pretrained, and gives it."""
    torch.manual_seed(1)
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}
    sizes = {"vqgan": {"num_vq_embeddings": 12}, "kl": {"latent_channels": 2}}[name]
    published = getattr(import_module("diffusers"), KINDS[name])(
        **{**settings(name)["network"], **blocks, **sizes}
    ).eval()
    if name == "vqgan":
        published.quantize.embedding.weight.data.normal_()  # apart from each other as after a training
    published.save_pretrained(path)
    return published
