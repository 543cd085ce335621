"""Any timm backbone as a feature pyramid: NCHW maps, any input size, normalisation inside."""

from __future__ import annotations

import math
from typing import Any

import timm
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from gss.networks.backbone_depth import block_depths, freeze
from gss.networks.backbone_network import (
    build_network,
    check_gives_maps,
    cut_by_timm,
    feature_levels,
    set_checkpointing,
)
from gss.networks.backbone_weights import load_weights
from gss.networks.plain_pyramid import PlainPyramid, resize_to_patches

MAX_STRIDE = 32  # photographs are padded to a multiple of it; levels coarser than that are not used


class TimmBackbone(nn.Module):
    """A timm network cut into its stages; a plain vision transformer, which has one scale, gets a pyramid behind it.

    Recomputing activations (`checkpointing`) runs a stage twice, so running batch statistics move twice per step.

    Args:
        name: timm model name, with or without the tag of its weights.
        pretrained: load timm's published weights (needs the network or timm's cache).
        weights: path of a local safetensors or state-dict file instead; never executed, only read.
        drop_path: largest rate of dropping residual paths in training, growing linearly with depth.
        frozen_stages: stem and so many stages, of four, keep their weights and batch statistics; 0: nothing does.
        output_stride: 8, 16 or 32: later stages are dilated instead of strided; None: the network's own.
        checkpointing: compute activations again in the backward pass instead of keeping them.

    Attributes:
        channels: channels of each level, finest first.
        strides: pixels per feature of each level, finest first (4, 8, 16, 32 for most; 4, 8, 8, 8 at output stride 8).
        origin: which weights it has, in words.

    Raises:
        ValueError: for a name that timm does not have, a setting that the network does not take, or a weights file
            that is not there or does not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str = "resnet18",
        pretrained: bool = False,
        weights: str | None = None,
        drop_path: float = 0.0,
        frozen_stages: int = 0,
        output_stride: int | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.network: Any = build_network(name, pretrained and weights is None, drop_path, output_stride)
        self.pyramid: PlainPyramid | None = None
        self._choose_levels(name)
        self.origin = "random initialisation"
        if weights is not None:
            load_weights(self.network, weights, name)
            self.origin = f"weights of {weights}"
        elif pretrained:
            self.origin = f"timm's published weights for {name}"
        if self.pyramid is not None and self.origin != "random initialisation":
            self.origin += ", feature pyramid at random"
        self._frozen = freeze(self.network, frozen_stages)
        if checkpointing:
            set_checkpointing(self.network, name)
        config = timm.get_pretrained_cfg(name, allow_unregistered=True)
        mean, std = (config.mean, config.std) if config else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        self.train()

    def _choose_levels(self, name: str) -> None:
        """Takes off what no level needs, so that every weight left is trained, and adds a pyramid where there is none.

        `levels` are timm's numbers of the maps; `patch` is the side of a plain transformer's patches, 0 for others.
        """
        info = feature_levels(self.network)
        strides, channels = [level["reduction"] for level in info], [level["num_chs"] for level in info]
        plain = len(strides) > 1 and len(set(strides)) == 1
        self.patch = strides[0] if plain else 0
        self.levels = [len(info) - 1] if plain else [i for i, s in enumerate(strides) if 4 <= s <= MAX_STRIDE]
        self.channels: list[int] = [channels[level] for level in self.levels]
        self.strides: list[int] = [strides[level] for level in self.levels]
        if plain:
            self.pyramid = PlainPyramid(channels[-1])
            self.channels, self.strides = list(self.pyramid.channels), list(self.pyramid.strides)
        if not cut_by_timm(self.network):
            check_gives_maps(self.network, name)
            self.network.prune_intermediate_layers(self.levels, prune_norm=not plain, prune_head=True)
            if hasattr(self.network, "head"):
                self.network.head = nn.Identity()  # older releases of timm leave ConvNeXt's last norm in it

    def layer_depths(self) -> dict[str, int]:
        """Depth of each parameter from 0 = stem to N = last block, for learning rates that decay with depth.

        A plain transformer's pyramid is not among them: it is new, and learns as a head does.
        """
        return {f"network.{name}": depth for name, depth in block_depths(self.network).items()}

    def train(self, mode: bool = True) -> TimmBackbone:
        """Sets the mode, except that frozen stages stay in evaluation mode."""
        super().train(mode)
        for name in self._frozen:
            self.network.get_submodule(name).eval()
        return self

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of a photograph.

        Args:
            image: (B, 3, H, W) float32 in [0, 1], any size.

        Returns:
            One map (B, channels, ceil(H / stride), ceil(W / stride)) per level, finest first.
        """
        height, width = image.shape[-2:]
        normalised = (image - self.mean) / self.std
        # zero is the mean colour after normalisation
        padded = nn.functional.pad(normalised, (0, -width % MAX_STRIDE, 0, -height % MAX_STRIDE))
        return [
            level[..., : math.ceil(height / stride), : math.ceil(width / stride)]
            for level, stride in zip(self._maps(padded), self.strides, strict=True)
        ]

    def _maps(self, padded: Tensor) -> list[Tensor]:
        """NCHW maps of a normalised photograph whose sides are multiples of 32, finest first."""
        if cut_by_timm(self.network):
            return list(self.network(padded))
        taken: dict[str, Any] = {"indices": self.levels, "output_fmt": "NCHW", "intermediates_only": True}
        if self.pyramid is None:
            return list(self.network.forward_intermediates(padded, **taken))
        (tokens,) = self.network.forward_intermediates(resize_to_patches(padded, self.patch), norm=True, **taken)
        return list(self.pyramid(tokens))
