"""The conditioning network I_psi: backbone, multi-level aggregation, token head and auxiliary pixel head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from gss.networks.backbone import TimmBackbone
from gss.networks.fusion import HighResolutionSkip, MultiLevelAggregation
from gss.networks.heads import PixelHead, TokenHead
from gss.networks.token_scores import TokenScores


@dataclass(frozen=True)
class ConditioningOutput:
    """What the network says of an image.

    Args:
        prior: scores over tokens of (B, h, w) cells; None for the pixel twin.
        class_scores: (B, C, h, w) float, what the pixel head says on the token grid.
        enlarge: makes of them scores over classes per pixel, of whole cells.
        size: (H, W) of the image.
    """

    prior: TokenScores | None
    class_scores: Tensor
    enlarge: Callable[[Tensor], Tensor]
    size: tuple[int, int]

    @cached_property
    def pixel_logits(self) -> Tensor:
        """(B, K, H, W) float, scores over classes; made when first asked for, since generation does without."""
        height, width = self.size
        with torch.set_grad_enabled(self.class_scores.requires_grad):  # whoever asks first
            return self.enlarge(self.class_scores)[..., :height, :width]


class ConditioningNetwork(nn.Module):
    """From an image to p(z | image), one categorical distribution per token.

    Without a token head it is the *pixel twin*: the same network and budget that classifies pixels directly.

    Args:
        backbone: the feature pyramid.
        fusion: brings the pyramid to the token grid.
        pixel_head: auxiliary head, or the only one of the pixel twin.
        token_head: scores over the vocabulary, or None.
        stride: pixels per token.
        detail: what the heads see beside the fused map; None: nothing.
    """

    def __init__(
        self,
        backbone: TimmBackbone,
        fusion: MultiLevelAggregation,
        pixel_head: PixelHead,
        token_head: TokenHead | None,
        stride: int,
        detail: HighResolutionSkip | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.fusion, self.detail = backbone, fusion, detail
        self.pixel_head, self.token_head = pixel_head, token_head
        self.stride = stride

    def forward(self, image: Tensor) -> ConditioningOutput:
        """Scores for an image (B, 3, H, W) float32 in [0, 1] of any size.

        A side that is no multiple of the stride is continued by its last row or column to whole tokens; h and w are
        rounded up, and what was added is cut off the pixel logits again.
        """
        height, width = image.shape[-2:]
        added = (0, -width % self.stride, 0, -height % self.stride)
        padded = nn.functional.pad(image, added, mode="replicate") if any(added) else image
        grid = (padded.shape[-2] // self.stride, padded.shape[-1] // self.stride)
        pyramid = self.backbone(padded)
        features = self.fusion(pyramid, grid)
        if self.detail is not None:
            features = torch.cat([features, self.detail(features, pyramid)], dim=1)
        class_scores = self.pixel_head(features, pyramid)
        prior = None if self.token_head is None else self.token_head(features, class_scores)
        return ConditioningOutput(prior, class_scores, self.pixel_head.enlarge, (height, width))
