"""Any timm backbone as a feature pyramid: NCHW maps, any input size, normalisation inside."""

from __future__ import annotations

import math
from typing import Any

import timm
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn

from gss.networks.backbone_weights import load_weights
from gss.networks.timm_models import (
    block_depths,
    build_network,
    check_gives_maps,
    cut_by_timm,
    feature_levels,
    freeze,
    set_checkpointing,
)

TOKEN_STRIDE = 16  # of a plain vision transformer, whose images are resized so that one patch covers 16x16 pixels
MAX_STRIDE = 32  # images are padded to a multiple of it; levels coarser than that are not used


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
        self.cut_by_timm = cut_by_timm(self.network)
        if not self.cut_by_timm:
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
        """Features of an image.

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
        """NCHW maps of a normalised image whose sides are multiples of 32, finest first."""
        if self.cut_by_timm:
            return list(self.network(padded))
        taken: dict[str, Any] = {"indices": self.levels, "output_fmt": "NCHW", "intermediates_only": True}
        if self.pyramid is None:
            return list(self.network.forward_intermediates(padded, **taken))
        (tokens,) = self.network.forward_intermediates(resize_to_patches(padded, self.patch), norm=True, **taken)
        return list(self.pyramid(tokens))


class PlainPyramid(nn.Module):
    """The simple feature pyramid of a plain vision transformer (ViTDet: Li et al., ECCV 2022), at strides 4 to 32.

    From its one map at stride 16: transposed convolutions, the map itself, max pooling. Each doubling halves the
    channels. ViTDet's 1x1 and 3x3 convolutions after that are left out, because
    multi-level aggregation begins with a 1x1 convolution of its own per level. The layers are new weights and start at
    random whatever the transformer starts from.

    Args:
        channels: width of the transformer.

    Attributes:
        channels: channels of each level, finest first: a quarter, a half, all and all of the width.
        strides: pixels per feature of each level, finest first.
    """

    strides: tuple[int, ...] = (4, 8, 16, 32)

    def __init__(self, channels: int) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.channels = (quarter, half, channels, channels)
        self.stride4 = nn.Sequential(_doubling(channels, half), LayerNorm2d(half), nn.GELU(), _doubling(half, quarter))
        self.stride8 = _doubling(channels, half)
        self.stride32 = nn.MaxPool2d(2)

    def forward(self, tokens: Tensor) -> list[Tensor]:
        """(B, channels, h, w) float at stride 16, h and w even, to four maps, finest first."""
        return [self.stride4(tokens), self.stride8(tokens), tokens, self.stride32(tokens)]


def resize_to_patches(image: Tensor, patch: int) -> Tensor:
    """An image of which one patch covers 16x16 pixels, so that tokens lie on the stride-16 grid.

    A network of patch 14 therefore sees 7/8 of the resolution, and one of patch 16 the image as it is. Area-true
    bilinear interpolation keeps token (i, j) over the pixels [16 i, 16 i + 16) x [16 j, 16 j + 16).

    Args:
        image: (B, 3, H, W) float, H and W multiples of 16.
        patch: pixels per side of the network's patches.
    """
    if patch == TOKEN_STRIDE:
        return image
    size = [side // TOKEN_STRIDE * patch for side in image.shape[-2:]]
    return nn.functional.interpolate(image, size=size, mode="bilinear", antialias=True)


def _doubling(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
