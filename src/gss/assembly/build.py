"""From a resolved configuration (plain containers) to networks, and back from a checkpoint.

Names in the configuration are looked up in registries; nothing that travels with weights is imported or executed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from gss.assembly.artefact import OLDER, PriorArtefact
from gss.assembly.inverse_exchange import as_conditioned
from gss.labels import LabelSpace
from gss.maskige.assignment import ASSIGNMENTS, assign_colours, touching_counts
from gss.maskige.learned_inverse import build_inverse
from gss.maskige.palette import PALETTES, Palette
from gss.maskige.transform import MaskigeTransform
from gss.networks.backbone import TimmBackbone
from gss.networks.conditioning import ConditioningNetwork
from gss.networks.fusion import HighResolutionSkip, MultiLevelAggregation
from gss.networks.pixel_heads import BilinearPixelHead, PixelHead, PyramidPixelHead, SubpixelHead
from gss.networks.token_heads import CodeTiedTokenHead, FreeTokenHead, TiedTokenHead, TokenHead
from gss.networks.token_scores import Vocabulary
from gss.pipeline import GenerativeSegmenter, MaskigeAutoencoder, token_stride
from gss.registry import lookup
from gss.tokenizer import build_tokenizer

# FOLDED The heads of a configuration: on a backbone's levels, and in front of a tokenizer.

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


Config = Mapping[str, Any]


def describe_prior(config: Config, label_space: LabelSpace) -> dict[str, Any]:
    """The description that a stage-one artefact of this configuration carries, as plain data."""
    return {
        "classes": list(label_space.names),
        "palette": config["maskige"]["palette"],
        "palette_seed": config["maskige"]["seed"],
        "assignment": config["maskige"]["assignment"],
        "temperature": config["maskige"]["temperature"],
        "scale": config["maskige"]["scale"],
        "inverse": dict(config["maskige"]["inverse"]),
        "native_probs": config["maskige"]["native_probs"],
        "tokenizer": dict(config["tokenizer"]),
        "data": config["data"]["name"],
        "size": list(config["data"]["size"]),
    }


def build_palette(config: Config, label_space: LabelSpace) -> Palette:
    """The configured palette, its colours in class order.

    Raises:
        ValueError: for a palette that does not exist, or that cannot tell these classes apart.
    """
    settings = config["maskige"]
    palette: Palette = lookup(PALETTES, "maskige.palette", settings["palette"])(label_space, settings["seed"])
    palette.check(label_space.num_classes)
    return palette


def arrange_palette(config: Config, palette: Palette, label_maps: Iterable[Tensor]) -> Palette:
    """The palette with its colours given to classes as configured.

    Args:
        config: plain data with the group maskige.
        palette: K colours in class order.
        label_maps: training labels, each (B, H, W) int64 in [0, K) or 255; read only if the assignment needs them.

    Raises:
        ValueError: for an assignment that does not exist.
    """
    settings = config["maskige"]
    if not lookup(ASSIGNMENTS, "maskige.assignment", settings["assignment"]):
        return palette
    touching = touching_counts(label_maps, palette.num_classes)
    return assign_colours(palette, touching, settings["temperature"], settings["seed"])


def build_autoencoder(description: Config, palette: Palette) -> MaskigeAutoencoder:
    """A maskige autoencoder, not yet fitted or trained, from an artefact's description and its colours.

    Raises:
        ValueError: for a tokenizer or an inverse that does not exist, or a stride that the scale does not divide.
    """
    transform = MaskigeTransform(palette, learned=description["palette"] == "learned")
    tokenizer = build_tokenizer(**description["tokenizer"])
    description = {**OLDER, **description}
    inverse = build_inverse(
        **description["inverse"], num_classes=palette.num_classes, temperature=description["temperature"]
    )
    return MaskigeAutoencoder(transform, tokenizer, inverse, description["scale"], description["native_probs"])


def load_autoencoder(artefact: PriorArtefact) -> MaskigeAutoencoder:
    """The maskige autoencoder that an artefact holds, in evaluation mode, without its token model.

    Raises:
        ValueError: if the artefact's tensors are not those of its description.
    """
    colours = Palette.blank(len(artefact.description["classes"]))  # they are read, not chosen
    autoencoder = build_autoencoder(artefact.description, colours)
    fill(autoencoder, artefact.without_token_model().state, "stage-one artefact")
    return autoencoder.eval()


def build_segmenter(
    config: Config,
    num_classes: int,
    autoencoder: MaskigeAutoencoder | None,
    codes: Tensor | None = None,
    token_weights: Tensor | None = None,
    vocabulary: Vocabulary | None = None,
) -> GenerativeSegmenter:
    """The conditioning network of a configuration in front of a maskige autoencoder (None: the pixel twin).

    Args:
        config: plain data with the groups backbone, fusion, head, maskige and tokenizer.
        num_classes: K.
        autoencoder: decodes the tokens.
        codes: (V, K, stride, stride) float32, the autoencoder's `code_class_probs` where they are known already, since
            they take long for a large decoder; None: decoded here if the head needs them.
        token_weights: (V,) float32, what each token will count in the loss; None: all the same.
        vocabulary: the tokens with a row in the head, as `vocabulary_selection` chose them; None: all V.

    Raises:
        ValueError: for a backbone or head that does not exist.
    """
    stride = token_stride(config["tokenizer"]["stride"], config["maskige"]["scale"])
    backbone = TimmBackbone(**config["backbone"])
    settings = dict(config["fusion"])
    width = settings.pop("detail", 0)  # older checkpoints do not know it
    fusion = MultiLevelAggregation(backbone.channels, **settings)
    channels, detail = settings["channels"], None
    if width:
        detail = HighResolutionSkip(backbone.channels[0], channels, width, stride, backbone.strides[0])
        channels += detail.channels
    pixel_head, token_head = build_pixel_head(config, channels, backbone.channels, num_classes, stride), None
    if autoencoder is not None:
        token_head = build_token_head(config["head"], channels, autoencoder, codes, token_weights, vocabulary)
    network = ConditioningNetwork(backbone, fusion, pixel_head, token_head, stride, detail)
    return GenerativeSegmenter(network, autoencoder)


def is_pixel_twin(config: Config) -> bool:
    """Whether the configured head scores pixels only, so that no stage-one artefact is needed."""
    return bool(config["head"]["token"] is None)


def restore_segmenter(checkpoint: Mapping[str, Any], prefix: str = "segmenter.") -> GenerativeSegmenter:
    """The network of a `stage=conditioning` checkpoint, with its weights, in evaluation mode.

    Args:
        checkpoint: what the stage saved: `gss` holds plain data, `state_dict` the tensors.
        prefix: of the segmenter's names in the state dict.

    Raises:
        ValueError: if the checkpoint is of another stage or another program, or its weights are not all there.
    """
    record = checkpoint.get("gss")
    if not record or record["stage"] != "conditioning":
        found = f"stage={record['stage']}" if record else "another program"
        raise ValueError(f"the checkpoint is of {found}: give checkpoint=PATH of a stage=conditioning run")
    state = {name.removeprefix(prefix): tensor for name, tensor in checkpoint["state_dict"].items()}
    autoencoder = None
    if record["prior"] is not None:
        inner = "autoencoder."
        held = {name.removeprefix(inner): tensor for name, tensor in state.items() if name.startswith(inner)}
        autoencoder = load_autoencoder(PriorArtefact(record["prior"], record["ceiling"], held))
    config = {**record["config"], "backbone": {**record["config"]["backbone"], "pretrained": False, "weights": None}}
    conditioned = None if autoencoder is None else as_conditioned(autoencoder, checkpoint)
    vocabulary = Vocabulary.held_in(state, "network.token_head.vocabulary.")
    num_classes = len(record["label_space"]["names"])
    network = build_segmenter(config, num_classes, conditioned, vocabulary=vocabulary).network
    segmenter = GenerativeSegmenter(network, autoencoder)
    fill(segmenter, state, "checkpoint")
    return segmenter.eval()


def fill(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Loads all weights of a module, or says in one sentence which are missing, unknown or of another shape."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:400]
        raise ValueError(f"the {source} does not fit the configuration that it carries: {reason}") from error
