"""The two networks of OpenAI's discrete VAE, rebuilt from their published layout (Ramesh et al., 2021, appendix A).

The code is our own; widths, kernels, residual gain and pixel mapping are those of github.com/openai/DALL-E, whose
licence asks that the use of its dVAE be clearly indicated: `tokenizer=dalle` is that dVAE and nothing of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

STRIDE = 8  # three halvings, between four groups of blocks
MARGIN = 0.1  # of the pixel mapping: a logit-Laplace likelihood needs values away from 0 and 1
WIDTHS = (1, 2, 4, 8)  # of the encoder's groups, in units of `hidden`; the decoder runs through them backwards


@dataclass(frozen=True)
class DVAELayout:
    """Sizes of the networks; the defaults are the published ones.

    Args:
        vocab_size: V, number of tokens.
        hidden: width of the first encoder group, a multiple of 4; the last is eight times as wide.
        num_blocks: residual blocks in each of the four groups.
        code_dim: length of a code, which is a column of the decoder's first 1x1 convolution.

    Raises:
        ValueError: for a size that the networks cannot have.
    """

    vocab_size: int = 8192
    hidden: int = 256
    num_blocks: int = 2
    code_dim: int = 128

    def __post_init__(self) -> None:
        if self.hidden < 4 or self.hidden % 4:
            raise ValueError(f"tokenizer.hidden={self.hidden} must be a multiple of 4 for tokenizer=dalle")
        for name in ("vocab_size", "num_blocks", "code_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"tokenizer.{name}={getattr(self, name)} must be at least 1 for tokenizer=dalle")

    @property
    def gain(self) -> float:
        """What a block's residual counts: 1 / (number of blocks)^2."""
        return 1 / (len(WIDTHS) * self.num_blocks) ** 2


class DVAEEncoder(nn.Module):
    """The posterior q(z | maskige): 7x7 convolution, four groups with pooling between them, 1x1 convolution."""

    def __init__(self, layout: DVAELayout) -> None:
        super().__init__()
        widths = [layout.hidden * width for width in WIDTHS]
        self.input = nn.Conv2d(3, layout.hidden, 7, padding=3)
        self.groups = _groups([layout.hidden, *widths], layout, (3, 3, 3, 1))
        self.output = nn.Conv2d(widths[-1], layout.vocab_size, 1)

    def features(self, maskige: Tensor) -> Tensor:
        """All but the last convolution: (B, 3, H, W) float32 in [0, 1] to (B, 8 hidden, h, w) float32."""
        features = self.input(map_pixels(maskige))
        for number, group in enumerate(self.groups):
            features = group(nn.functional.max_pool2d(features, 2) if number else features)
        return torch.as_tensor(features.relu())

    def forward(self, maskige: Tensor) -> Tensor:
        """Scores over tokens: (B, 3, H, W) float32 in [0, 1] to (B, V, h, w) float32."""
        return torch.as_tensor(self.output(self.features(maskige)))


class DVAEDecoder(nn.Module):
    """The likelihood p(maskige | z), seen from codes: four groups with nearest doubling between them, 1x1 convolution.

    The published decoder begins with a 1x1 convolution of one-hot tokens. That is a look-up of its columns, so they are
    kept as a codebook (V, code_dim), and what is fed in are codes: looked up, or expected under a distribution.
    """

    def __init__(self, layout: DVAELayout) -> None:
        super().__init__()
        widths = [layout.hidden * width for width in reversed(WIDTHS)]
        self.codebook = nn.Embedding(layout.vocab_size, layout.code_dim)
        self.code_bias = nn.Parameter(torch.zeros(layout.code_dim))
        self.groups = _groups([layout.code_dim, *widths], layout, (1, 3, 3, 3))
        self.output = nn.Conv2d(layout.hidden, 6, 1)

    def forward(self, codes: Tensor) -> Tensor:
        """Codes (B, code_dim, h, w) float to a picture (B, 3, 8 h, 8 w) float32 in [0, 1].

        Of the six output channels the first three are the logit means; the others, log-scales, are not used.
        """
        features = codes + self.code_bias[:, None, None]
        for number, group in enumerate(self.groups):
            assert isinstance(group, nn.Sequential)
            for place, block in enumerate(group):
                features = block(features, doubled=number > 0 and place == 0)
        return unmap_pixels(self.output(features.relu())[:, :3].float().sigmoid())


class ResidualBlock(nn.Module):
    """Shortcut(x) + gain * four times (ReLU, convolution), through a bottleneck of a quarter of the width.

    Args:
        before: channels C of the input.
        after: channels C' of the output; the shortcut is a 1x1 convolution where it differs from `before`.
        kernels: sides of the four convolutions.
        gain: what the residual counts.
    """

    def __init__(self, before: int, after: int, kernels: tuple[int, int, int, int], gain: float) -> None:
        super().__init__()
        middle, self.gain = after // 4, gain
        widths = pairwise((before, middle, middle, middle, after))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(*width, kernel, padding=kernel // 2) for width, kernel in zip(widths, kernels, strict=True)
        )
        self.shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, features: Tensor, doubled: bool = False) -> Tensor:
        """(B, C, H, W) float to (B, C', H, W), or to (B, C', 2 H, 2 W) as if the input had been doubled before.

        Repeating pixels commutes with 1x1 convolutions, so those of a doubled input run before the doubling: a quarter
        of the work, and the widest map is never held at the larger size.
        """
        first, *others = self.convolutions
        residual, shortcut = first(features.relu()), self.shortcut(features)
        if doubled:
            residual, shortcut = (nn.functional.interpolate(part, scale_factor=2.0) for part in (residual, shortcut))
        for convolution in others:
            residual = convolution(residual.relu_())
        return torch.as_tensor(residual.mul_(self.gain).add_(shortcut))


def _groups(widths: list[int], layout: DVAELayout, kernels: tuple[int, int, int, int]) -> nn.ModuleList:
    """Groups of `num_blocks` blocks, the first of which changes the width."""
    return nn.ModuleList(
        nn.Sequential(
            *(
                ResidualBlock(after if number else before, after, kernels, layout.gain)
                for number in range(layout.num_blocks)
            )
        )
        for before, after in pairwise(widths)
    )


def map_pixels(maskige: Tensor) -> Tensor:
    """Moves a picture (B, 3, H, W) float32 from [0, 1] into [0.1, 0.9]: (1 - 2 eps) x + eps."""
    return (1 - 2 * MARGIN) * maskige + MARGIN


def unmap_pixels(mapped: Tensor) -> Tensor:
    """Undoes `map_pixels` and clips: (B, 3, H, W) float32 in [0, 1] to the same."""
    return ((mapped - MARGIN) / (1 - 2 * MARGIN)).clamp(0, 1)
