"""Four scales from the one map of a plain vision transformer: the simple feature pyramid (Li et al., ECCV 2022)."""

from __future__ import annotations

from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn

TOKEN_STRIDE = 16  # pixels of the photograph per token; photographs are resized so that one patch covers them


class PlainPyramid(nn.Module):
    """Strides 4, 8, 16 and 32 from a map at stride 16: transposed convolutions, the map itself, max pooling.

    As in ViTDet each doubling halves the channels. Its 1x1 and 3x3 convolutions after that are left out, because
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


def resize_to_patches(photograph: Tensor, patch: int) -> Tensor:
    """A photograph of which one patch covers 16x16 pixels, so that tokens lie on the stride-16 grid.

    A network of patch 14 therefore sees 7/8 of the resolution, and one of patch 16 the photograph as it is. Area-true
    bilinear interpolation keeps token (i, j) over the pixels [16 i, 16 i + 16) x [16 j, 16 j + 16).

    Args:
        photograph: (B, 3, H, W) float, H and W multiples of 16.
        patch: pixels per side of the network's patches.
    """
    if patch == TOKEN_STRIDE:
        return photograph
    size = [side // TOKEN_STRIDE * patch for side in photograph.shape[-2:]]
    return nn.functional.interpolate(photograph, size=size, mode="bilinear", antialias=True)


def _doubling(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
