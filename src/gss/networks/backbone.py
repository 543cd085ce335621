"""Any timm backbone as a feature pyramid: NCHW maps, any input size, normalisation inside."""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

MAX_STRIDE = 32  # photographs are padded to a multiple of it; levels coarser than that are not used


class TimmBackbone(nn.Module):
    """A timm network cut into its stages.

    Args:
        name: timm model name.
        pretrained: load timm's published weights (needs the network or timm's cache).
        weights: path of a local safetensors or state-dict file instead; never executed, only read.

    Attributes:
        channels: channels of each level, finest first.
        strides: pixels per feature of each level, finest first (4, 8, 16, 32 for most networks).

    Raises:
        ValueError: for a name that timm does not have, or a weights file that is not there or does not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str = "resnet18", pretrained: bool = False, weights: str | None = None) -> None:
        super().__init__()
        if not timm.is_model(name):
            near = difflib.get_close_matches(name, timm.list_models(), n=3) or ["resnet18"]
            raise ValueError(f"timm has no backbone.name={name!r}: nearest are {', '.join(near)}")
        if weights is not None and not Path(weights).is_file():
            raise ValueError(f"backbone.weights={weights} is not a file: give a state dict or safetensors file")
        settings: dict[str, Any] = {"pretrained_cfg_overlay": {"file": weights}} if weights else {}
        if name.startswith(("swin_", "swinv2_")):
            settings["strict_img_size"] = False  # built for one input size otherwise (timm#2242)
        try:
            self.network: Any = timm.create_model(
                name, features_only=True, pretrained=pretrained or bool(weights), **settings
            )
        except (RuntimeError, SafetensorError) as error:
            if weights is None:
                raise
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"backbone.weights={weights} does not fit backbone.name={name}: {reason}") from error
        self.channels_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"
        info: Any = self.network.feature_info
        levels = [level for level, stride in enumerate(info.reduction()) if 4 <= stride <= MAX_STRIDE]
        self.levels = levels
        self.channels: list[int] = [info.channels()[level] for level in levels]
        self.strides: list[int] = [info.reduction()[level] for level in levels]
        config = timm.get_pretrained_cfg(name, allow_unregistered=True)
        mean, std = (config.mean, config.std) if config else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

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
        maps = self.network(padded)
        pyramid = [maps[level].movedim(-1, 1) if self.channels_last else maps[level] for level in self.levels]
        return [
            level[..., : math.ceil(height / stride), : math.ceil(width / stride)]
            for level, stride in zip(pyramid, self.strides, strict=True)
        ]
