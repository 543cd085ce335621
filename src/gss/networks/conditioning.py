"""The conditioning network I_psi: backbone, multi-level aggregation, token head and auxiliary pixel head."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from gss.networks.backbone import TimmBackbone
from gss.networks.fusion import MultiLevelAggregation
from gss.networks.heads import BilinearPixelHead, SubpixelHead


@dataclass(frozen=True)
class ConditioningOutput:
    """What the network says of a photograph.

    Args:
        prior_logits: (B, V, h, w) float, scores over tokens; None for the pixel twin.
        pixel_logits: (B, K, H, W) float, scores over classes.
    """

    prior_logits: Tensor | None
    pixel_logits: Tensor


class ConditioningNetwork(nn.Module):
    """From a photograph to p(z | image), one categorical distribution per token.

    Without a token head it is the *pixel twin*: the same network and budget that classifies pixels directly.

    Args:
        backbone: the feature pyramid.
        fusion: brings the pyramid to the token grid.
        pixel_head: auxiliary head, or the only one of the pixel twin.
        token_head: scores over the vocabulary, or None.
        stride: pixels per token.
    """

    def __init__(
        self,
        backbone: TimmBackbone,
        fusion: MultiLevelAggregation,
        pixel_head: BilinearPixelHead | SubpixelHead,
        token_head: nn.Module | None,
        stride: int,
    ) -> None:
        super().__init__()
        self.backbone, self.fusion = backbone, fusion
        self.pixel_head, self.token_head = pixel_head, token_head
        self.stride = stride

    def forward(self, image: Tensor) -> ConditioningOutput:
        """Scores for a photograph (B, 3, H, W) float32 in [0, 1].

        Raises:
            ValueError: unless both sides are multiples of the stride.
        """
        height, width = image.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(
                f"a photograph of {height}x{width} does not divide into tokens of stride {self.stride}: "
                "choose data.size as multiples of tokenizer.stride"
            )
        grid = (height // self.stride, width // self.stride)
        features = self.fusion(self.backbone(image), grid)
        class_scores = self.pixel_head.scores(features)
        prior_logits = None if self.token_head is None else self.token_head(features, class_scores)
        return ConditioningOutput(prior_logits, self.pixel_head.enlarge(class_scores))
