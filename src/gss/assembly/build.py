"""From a resolved configuration (plain containers) to networks: stage one's autoencoder, then the segmenter around it.

Names in the configuration are looked up in registries; nothing that travels with weights is imported or executed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from gss.assembly.artefact import OLDER, PriorArtefact
from gss.labels import LabelSpace
from gss.maskige.assignment import ASSIGNMENTS, assign_colours, touching_counts
from gss.maskige.inverse import AffineLeastSquares, Inverse, LeastSquares, NearestColour, SoftDistance
from gss.maskige.learned_inverse import ConvolutionCorrection, ResidualInverse, SwinCorrection
from gss.maskige.palette import PALETTES, Palette
from gss.maskige.transform import MaskigeTransform
from gss.networks.backbone import TimmBackbone
from gss.networks.conditioning import ConditioningNetwork
from gss.networks.fusion import HighResolutionSkip, MultiLevelAggregation
from gss.networks.heads import (
    BilinearPixelHead,
    CodeTiedTokenHead,
    FreeTokenHead,
    PixelHead,
    PyramidPixelHead,
    SubpixelHead,
    TiedTokenHead,
    TokenHead,
)
from gss.networks.token_scores import Vocabulary
from gss.pipeline import GenerativeSegmenter, MaskigeAutoencoder, token_stride
from gss.registry import differences, lookup
from gss.tokenizer.base import Tokenizer
from gss.tokenizer.dalle import DalleDVAE
from gss.tokenizer.diffusers import VQGAN, KLAutoencoder
from gss.tokenizer.patches import PatchDictionary
from gss.tokenizer.patches_context import ContextDictionary
from gss.tokenizer.vqvae import VQVAE

TOKENIZERS: dict[str, type[Tokenizer]] = {
    "patches": PatchDictionary,
    "patches_context": ContextDictionary,
    "vqvae": VQVAE,
    "dalle": DalleDVAE,
    "vqgan": VQGAN,
    "kl": KLAutoencoder,
}
ENLARGED_BILINEARLY = ("bilinear", "pyramid")  # pixel heads whose scores a tied token head can build on
SOURCES = ("weights", "sha256")  # settings of a tokenizer that say where its weights come from, not what it computes

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
    palette = lookup(PALETTES, "maskige.palette", settings["palette"])(label_space, settings["seed"])
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
    return _assemble(transform, build_tokenizer(**description["tokenizer"]), {**OLDER, **description})


def with_inverse(autoencoder: MaskigeAutoencoder, reading: Config) -> MaskigeAutoencoder:
    """The same transform and tokenizer, not copied, with a new inverse.

    Args:
        autoencoder: any.
        reading: its `inverse` (settings), `temperature` and `native_probs`.
    """
    return _assemble(autoencoder.transform, autoencoder.tokenizer, {**reading, "scale": autoencoder.scale})


def _assemble(transform: MaskigeTransform, tokenizer: Tokenizer, description: Config) -> MaskigeAutoencoder:
    inverse = build_inverse(
        **description["inverse"], num_classes=len(transform.colours), temperature=description["temperature"]
    )
    return MaskigeAutoencoder(transform, tokenizer, inverse, description["scale"], description["native_probs"])


def build_tokenizer(name: str, **settings: Any) -> Tokenizer:
    """The tokenizer that the config group `tokenizer` names.

    Args:
        name: a key of `TOKENIZERS`.
        settings: keyword arguments of that class.

    Raises:
        ValueError: if there is no tokenizer of that name.
    """
    return lookup(TOKENIZERS, "tokenizer.name", name)(**settings)


def build_inverse(name: str, num_classes: int, temperature: float = 900.0, **settings: Any) -> Inverse:
    """The inverse that `maskige.inverse.name` names.

    Args:
        name: a key of `INVERSES`.
        num_classes: K.
        temperature: of the soft distance, alone or under a learned correction, in squared 8-bit colour units.
        settings: of the learned ones: `hidden` of cnn; `channels`, `depth`, `num_heads`, `window_size` of
            shifted_window.

    Raises:
        ValueError: if there is no inverse of that name, or it has not these settings.
    """
    inverse = lookup(INVERSES, "maskige.inverse.name", name)
    known = list(inspect.signature(inverse).parameters)[2:]
    for setting in settings:
        if setting not in known:
            there_are = f"those are {', '.join(known)}" if known else "there are none"
            raise ValueError(
                f"maskige.inverse.{setting} is no setting of maskige.inverse.name={name} ({there_are}): "
                f"leave it out with ~maskige.inverse.{setting}"
            )
    return inverse(num_classes, temperature, **settings)


def _cnn(num_classes: int, temperature: float, hidden: int = 32) -> Inverse:
    return ResidualInverse(ConvolutionCorrection(num_classes, hidden), temperature)


def _shifted_window(
    num_classes: int, temperature: float, channels: int = 128, depth: int = 1, num_heads: int = 4, window_size: int = 7
) -> Inverse:
    correction = SwinCorrection(num_classes, channels, depth, num_heads, window_size)
    return ResidualInverse(correction, temperature)


INVERSES: dict[str, Callable[..., Inverse]] = {
    "nearest": lambda num_classes, temperature: NearestColour(),
    "least_squares": lambda num_classes, temperature: LeastSquares(),
    "affine": lambda num_classes, temperature: AffineLeastSquares(),
    "soft_distance": lambda num_classes, temperature: SoftDistance(temperature),
    "cnn": _cnn,
    "shifted_window": _shifted_window,
}


def load_autoencoder(artefact: PriorArtefact) -> MaskigeAutoencoder:
    """The maskige autoencoder that an artefact holds, in evaluation mode, without its token model.

    Raises:
        ValueError: if the artefact's tensors are not those of its description.
    """
    colours = Palette.blank(len(artefact.description["classes"]))  # they are read, not chosen
    autoencoder = build_autoencoder(artefact.description, colours)
    fill(autoencoder, artefact.without_token_model().state, "stage-one artefact")
    return autoencoder.eval()


def take_tokenizer(path: str, description: Config, palette: Palette) -> Tokenizer:
    """The fitted or trained tokenizer of another run's artefact, so that a sweep over maskiges trains it once.

    Args:
        path: of the artefact.
        description: what this run's own artefact will say.
        palette: this run's colours.

    Raises:
        ValueError: if the artefact cannot be read, its tokenizer has other settings, naming both values, or it knows
            the classes of other colours.
    """
    key = "stage.tokenizer_from"
    artefact = PriorArtefact.load(path, key)
    found, wanted = (
        {f"tokenizer.{name}": value for name, value in settings.items() if name not in SOURCES}
        for settings in (artefact.description["tokenizer"], description["tokenizer"])
    )
    if differing := differences(found, wanted, "there"):
        raise ValueError(f"{key}={path} does not fit: {differing}; set these keys as they are there")
    autoencoder = load_autoencoder(artefact)
    if autoencoder.tokenizer.knows_classes and not autoencoder.transform.colours.equal(palette.colours):
        raise ValueError(
            f"{key}={path} knows the colours of maskige.palette={artefact.description['palette']} there, which are "
            f"not those of maskige.palette={description['palette']} here: leave {key} out, so that "
            f"tokenizer={description['tokenizer']['name']} is fitted to these"
        )
    return autoencoder.tokenizer


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
        ValueError: for a backbone, head or tie that does not exist, or a pixel head that cannot be a token head's
            evidence.
    """
    stride = token_stride(config["tokenizer"]["stride"], config["maskige"]["scale"])
    backbone = TimmBackbone(**config["backbone"])
    settings = dict(config["fusion"])
    width = settings.pop("detail", 0)  # older checkpoints do not know it
    fusion = MultiLevelAggregation(backbone.channels, **settings)
    channels, skip = settings["channels"], None
    if width:
        skip = HighResolutionSkip(backbone.channels[0], channels, width, stride, backbone.strides[0])
        channels += skip.channels
    pixel_heads: dict[str, Callable[[], PixelHead]] = {
        "bilinear": lambda: BilinearPixelHead(channels, num_classes, stride),
        "subpixel": lambda: SubpixelHead(channels, num_classes, stride),
        "pyramid": lambda: PyramidPixelHead(backbone.channels, settings["level_channels"], num_classes, stride),
    }
    pixel_head, token_head = lookup(pixel_heads, "head.pixel", config["head"]["pixel"])(), None
    if autoencoder is not None:
        token_head = _token_head(config["head"], channels, autoencoder, codes, token_weights, vocabulary)
    network = ConditioningNetwork(backbone, fusion, pixel_head, token_head, stride, skip)
    return GenerativeSegmenter(network, autoencoder)


def _token_head(
    head: Config,
    channels: int,
    autoencoder: MaskigeAutoencoder,
    codes: Tensor | None,
    token_weights: Tensor | None,
    vocabulary: Vocabulary | None,
) -> TokenHead:
    """The token head that `head.token` and, of a tied one, `head.tie` name; arguments as in `build_segmenter`.

    A tied head begins at the token frequencies that a network which sees nothing would settle at: log-usage, shifted by
    the weights of the loss. `channels` are those of the fused map and the high-resolution skip beside it.
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
    frequency = autoencoder.tokenizer.log_usage()
    if token_weights is not None:
        frequency = (frequency + token_weights.log()).log_softmax(0)
    if decodes:
        assert codes is not None
        return TiedTokenHead(channels, codes, frequency, evidence, vocabulary)
    table = autoencoder.tokenizer.code_table
    return CodeTiedTokenHead(channels, table, frequency, codes if evidence else None, vocabulary)


def fill(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Loads all weights of a module, or says in one sentence which are missing, unknown or of another shape."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:400]
        raise ValueError(f"the {source} does not fit the configuration that it carries: {reason}") from error
