"""The heads of a configuration: on a backbone's levels, and in front of a tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from gss.networks.code_tied_head import CodeTiedTokenHead
from gss.networks.heads import FreeTokenHead, TiedTokenHead, TokenHead
from gss.networks.pixel_heads import BilinearPixelHead, PixelHead, PyramidPixelHead, SubpixelHead
from gss.networks.vocabulary import Vocabulary
from gss.pipeline import MaskigeAutoencoder
from gss.registry import lookup

ENLARGED_BILINEARLY = ("bilinear", "pyramid")  # pixel heads whose scores a tied token head can build on


def build_pixel_head(
    config: Mapping[str, Any], channels: int, in_channels: Sequence[int], num_classes: int, stride: int
) -> PixelHead:
    """The pixel head that `head.pixel` names.

    Args:
        config: plain data with the groups fusion and head.
        channels: of what the heads see, the fused map and the detail beside it.
        in_channels: channels of the backbone's levels.
        num_classes: K.
        stride: pixels per token.

    Raises:
        ValueError: if there is no pixel head of that name.
    """
    level_channels = config["fusion"]["level_channels"]
    heads: dict[str, Callable[[], PixelHead]] = {
        "bilinear": lambda: BilinearPixelHead(channels, num_classes, stride),
        "subpixel": lambda: SubpixelHead(channels, num_classes, stride),
        "pyramid": lambda: PyramidPixelHead(in_channels, level_channels, num_classes, stride),
    }
    made: PixelHead = lookup(heads, "head.pixel", config["head"]["pixel"])()
    return made


def build_token_head(
    head: Mapping[str, Any],
    channels: int,
    autoencoder: MaskigeAutoencoder,
    codes: Tensor | None = None,
    token_weights: Tensor | None = None,
    vocabulary: Vocabulary | None = None,
) -> TokenHead:
    """The token head that `head.token` and, of a tied one, `head.tie` name.

    Args:
        head: plain data, the group head.
        channels: of what the heads see, the fused map and the detail beside it.
        autoencoder: whose tokens are scored.
        codes: (V, K, stride, stride) float32, its `code_class_probs` where they are known already; None: decoded here
            if the head needs them.
        token_weights: (V,) float32, what each token will count in the loss; None: all the same.
        vocabulary: the tokens with a row of their own; None: all V.

    Raises:
        ValueError: for a head or a tie that does not exist, or a pixel head that cannot be its evidence.
    """
    if not lookup({"tied": True, "free": False}, "head.token", head["token"]):
        return FreeTokenHead(channels, autoencoder.tokenizer.vocab_size, head["hidden"], vocabulary)
    evidence = head["pixel_evidence"]
    if evidence and head["pixel"] not in ENLARGED_BILINEARLY:
        allowed = " or ".join(ENLARGED_BILINEARLY)
        raise ValueError(f"head.pixel_evidence=true needs head.pixel={allowed}, got head.pixel={head['pixel']}")
    decodes = lookup({"decoded": True, "codes": False}, "head.tie", head.get("tie", "decoded"))
    if codes is None and (decodes or evidence):
        codes = autoencoder.code_class_probs()
    frequency = _expected_frequency(autoencoder, token_weights)
    if decodes:
        assert codes is not None
        return TiedTokenHead(channels, codes, frequency, evidence, vocabulary)
    table = autoencoder.tokenizer.code_table
    return CodeTiedTokenHead(channels, table, frequency, codes if evidence else None, vocabulary)


def _expected_frequency(autoencoder: MaskigeAutoencoder, token_weights: Tensor | None) -> Tensor:
    """What the weighted loss expects of a network that sees nothing: log-probabilities (V,) float32."""
    log_frequency = autoencoder.tokenizer.log_usage()
    return log_frequency if token_weights is None else (log_frequency + token_weights.log()).log_softmax(0)
