"""Autoencoders of diffusers, an optional extra, as tokenizers: VQGAN and the autoencoder of latent diffusion.

They are built from settings, or begin from a local folder in diffusers' own format, as `save_pretrained` writes it:
`config.json` and `diffusion_pytorch_model.safetensors`. Nothing in it is executed, and nothing is fetched.
"""

from __future__ import annotations

import inspect
import json
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import safetensors
import torch
from torch import Tensor, nn

from gss.registry import differences
from gss.tokenizer.base import count_tokens
from gss.tokenizer.quantizers import FiniteScalarCodes, MovingAverageCodes, fsq_levels
from gss.tokenizer.vqvae import LatentTokenizer

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
BLOCKS = {"down": "DownEncoder", "up": "UpDecoder"}  # the kinds that every published autoencoder consists of
# Arguments that change nothing in what we compute: hints for diffusion pipelines, tiling and half precision.
INERT = {"self", "sample_size", "force_upcast", "lookup_from_codebook", "latents_mean", "latents_std"}
REACH = 3.0  # standard deviations on either side that the levels of a rounded latent cover


class DiffusersTokenizer(LatentTokenizer):
    """A network of diffusers with colours in [-1, 1] around a quantizer.

    It is trained from nothing on maskiges, or begins from published weights. With `frozen` those stay as they are and
    only the use of the tokens is counted. The weights' folder is read by `stage=prior` alone: its artefact holds them.

    Args:
        kind: class of diffusers.
        stride: pixels per token.
        network: that class's own arguments.
        weights: folder in diffusers' format; None: random weights.
        frozen: keep the published weights.
        usage_pictures: how many training maskiges are encoded to count the use of a frozen tokenizer's tokens.
        ours: arguments of the class that follow from other settings.

    Raises:
        ValueError: if diffusers is not installed, or the settings contradict each other.
    """

    kind: str
    config_keys: ClassVar[Mapping[str, str]]  # of arguments that are not under tokenizer.network

    def __init__(
        self,
        stride: int,
        network: Mapping[str, Any],
        weights: str | None,
        frozen: bool,
        usage_pictures: int,
        **ours: Any,
    ) -> None:
        super().__init__()
        if frozen and weights is None:
            raise ValueError("tokenizer.frozen=true keeps published weights: give tokenizer.weights=FOLDER as well")
        if usage_pictures < 1:
            raise ValueError(f"tokenizer.usage_pictures={usage_pictures} must be at least 1")
        self.stride, self.weights, self.usage_pictures = stride, weights, usage_pictures
        self.trainable, self.fitted = not frozen, frozen
        self.network: Any = build_network(self.kind, stride, network, **ours)

    @abstractmethod
    def fill(self, published: PublishedNetwork) -> None:
        """Takes over published weights of the same layout."""

    def load_weights(self) -> None:
        """Reads the folder that the setting `weights` names, where it names one.

        Raises:
            ValueError: if it is missing, damaged, or of another layout.
        """
        if self.weights is not None:
            published = read_network(self.kind, self.weights)
            check_same(published.config, plain_config(self.network), self.config_keys)
            self.fill(published)

    def fit(
        self,
        maskiges: Iterable[Tensor],
        colours: Tensor,
        ignore_colour: Tensor,
        on_iteration: Callable[[int], None] = lambda iteration: None,
    ) -> None:
        """Of a frozen tokenizer: reads the weights, then counts the tokens of the first maskiges (B, 3, H, W).

        Raises:
            ValueError: if the weights are missing, damaged, or of another layout.
        """
        self.load_weights()
        ignored = ignore_colour.to(self.code_table)
        self.quantizer.usage.copy_(count_tokens(self, maskiges, ignored, self.usage_pictures, on_iteration))

    def decode_latent(self, latent: Tensor) -> Tensor:
        """Codes (B, D, h, w) float to a maskige (B, 3, H, W) float32 in [0, 1]."""
        picture = (self._decode(latent).float() + 1) / 2
        # straight through: a colour beyond the range must still feel which way it should go
        return torch.as_tensor(picture + (picture.clamp(0, 1) - picture).detach())

    @abstractmethod
    def _decode(self, latent: Tensor) -> Tensor:
        """Codes (B, D, h, w) float to a picture (B, 3, H, W) about [-1, 1]."""


class VQGAN(DiffusersTokenizer):
    """VQGAN's autoencoder (Esser et al., 2021, arXiv:2012.09841), diffusers' `VQModel`: tokens are nearest codes.

    Residual convolutions with group normalisation around a codebook, trained on maskiges by reconstruction and
    commitment alone: neither the discriminator nor the perceptual loss of the paper, both of which repair texture, and
    a maskige has none. Codes follow moving averages as those of `tokenizer=vqvae` do, where the paper moves them by
    gradient: so none stays unused.

    Args:
        network: arguments of `VQModel`, such as `block_out_channels`.
        stride: pixels per token; must be that of `network`.
        vocab_size: V.
        decay: of the codes' moving averages, and of the counted usage.
        weights: folder with published weights in diffusers' format; None: trained from nothing.
        frozen: keep the published weights as they are.
        usage_pictures: how many training maskiges are encoded to count the use of a frozen tokenizer's tokens.

    Raises:
        ValueError: if diffusers is not installed, or the settings contradict each other.
    """

    kind = "VQModel"
    config_keys: ClassVar[Mapping[str, str]] = {"num_vq_embeddings": "tokenizer.vocab_size"}
    quantizer: MovingAverageCodes

    def __init__(
        self,
        network: Mapping[str, Any],
        stride: int = 8,
        vocab_size: int = 1024,
        decay: float = 0.95,
        weights: str | None = None,
        frozen: bool = False,
        usage_pictures: int = 64,
    ) -> None:
        super().__init__(stride, network, weights, frozen, usage_pictures, num_vq_embeddings=vocab_size)
        self.vocab_size = vocab_size
        self.quantizer = MovingAverageCodes(self.network.quantize.vq_embed_dim, vocab_size, decay)
        self.network.quantize = nn.Identity()  # the quantizer above holds the codes
        self.requires_grad_(self.trainable)

    def fill(self, published: PublishedNetwork) -> None:
        """Takes over published weights of the same layout, codes included."""
        state = dict(published.state)
        self.quantizer.start_from(state.pop("quantize.embedding.weight"))
        self.network.load_state_dict(state)

    def encode_latent(self, maskige: Tensor) -> Tensor:
        """What is compared with the codes: (B, 3, H, W) float in [0, 1] to (B, D, h, w) float32."""
        latent: Tensor = self.network.encode(maskige * 2 - 1).latents
        return latent

    def _decode(self, latent: Tensor) -> Tensor:
        picture: Tensor = self.network.decode(latent, force_not_quantize=True).sample
        return picture


class KLAutoencoder(DiffusersTokenizer):
    """Latent diffusion's autoencoder (Rombach et al., 2022, arXiv:2112.10752), diffusers' `AutoencoderKL`, rounded.

    Its latent is continuous: a token is the posterior's mean, each channel rounded to one of a few even levels.

    The levels cover three standard deviations of the latent on either side of its centre, as the network's own
    `scaling_factor` and `shift_factor` give them; what lies beyond is bounded. Training rounds the mean as well, with
    straight-through gradients, so the decoder learns what rounding leaves; sampling the posterior would add noise to
    that, and was worse (a run each of 300 steps on drawn scenes: ceiling 0.234 or 0.242, against 0.256).
    The divergence KL(q(latent | maskige) || N(0, 1)) has a small weight. No discriminator, no perceptual loss.

    Args:
        network: arguments of `AutoencoderKL`, such as `block_out_channels`.
        stride: pixels per token; must be that of `network`.
        vocab_size: V.
        levels: per latent channel, with the product V; None: chosen from V.
        kl_weight: of the divergence per number of the latent, in nats.
        decay: of the counted usage.
        weights: folder with published weights in diffusers' format; None: trained from nothing.
        frozen: keep the published weights as they are.
        usage_pictures: how many training maskiges are encoded to count the use of a frozen tokenizer's tokens.

    Raises:
        ValueError: if diffusers is not installed, V is no product of levels, or the settings contradict each other.
    """

    kind = "AutoencoderKL"
    config_keys: ClassVar[Mapping[str, str]] = {"latent_channels": "the length of tokenizer.levels"}

    def __init__(
        self,
        network: Mapping[str, Any],
        stride: int = 8,
        vocab_size: int = 1024,
        levels: Sequence[int] | None = None,
        kl_weight: float = 1e-3,
        decay: float = 0.95,
        weights: str | None = None,
        frozen: bool = False,
        usage_pictures: int = 64,
    ) -> None:
        grid = fsq_levels(vocab_size, levels)
        super().__init__(stride, network, weights, frozen, usage_pictures, latent_channels=len(grid))
        self.vocab_size, self.kl_weight = vocab_size, kl_weight
        self.quantizer = FiniteScalarCodes(grid, decay, even=True)
        self.spread: float = REACH / self.network.config.scaling_factor
        self.centre: float = self.network.config.shift_factor or 0.0
        self.requires_grad_(self.trainable)

    def fill(self, published: PublishedNetwork) -> None:
        """Takes over published weights of the same layout."""
        self.network.load_state_dict(published.state)

    def encode_latent(self, maskige: Tensor) -> Tensor:
        """The posterior's mean, the levels' reach being 1: (B, 3, H, W) float in [0, 1] to (B, D, h, w) float32."""
        mean: Tensor = self.network.encode(maskige * 2 - 1).latent_dist.mode()
        return (mean - self.centre) / self.spread

    def _training_latent(self, maskige: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.network.encode(maskige * 2 - 1).latent_dist
        mean, unit = (posterior.mean - self.centre) / self.spread, REACH / self.spread
        squares = (mean * REACH).square() + posterior.var * unit**2  # in standard deviations
        divergence = (squares - 1 - posterior.logvar - 2 * math.log(unit)).mean() / 2
        return mean, self.kl_weight * divergence

    def _decode(self, latent: Tensor) -> Tensor:
        picture: Tensor = self.network.decode(latent * self.spread + self.centre).sample
        return picture


@dataclass(frozen=True)
class PublishedNetwork:
    """What a folder holds.

    Args:
        config: the network's arguments, defaults included.
        state: tensors by name, float32.
    """

    config: dict[str, Any]
    state: dict[str, Tensor]


def build_network(kind: str, stride: int, settings: Mapping[str, Any], **ours: Any) -> Any:
    """An untrained network of diffusers.

    Args:
        kind: its class, `VQModel` or `AutoencoderKL`.
        stride: pixels per token; every entry of `block_out_channels` but the last halves the picture.
        settings: `tokenizer.network`: arguments of that class as its `config.json` names them.
        ours: arguments that follow from other settings.

    Raises:
        ValueError: if diffusers is not installed, or the settings make no such network or another stride.
    """
    network_class = _diffusers_class(kind)
    known = set(inspect.signature(network_class.__init__).parameters) - INERT - set(ours)
    if unknown := sorted(set(settings) - known):
        raise ValueError(f"tokenizer.network has no {', '.join(unknown)}: {kind} takes {', '.join(sorted(known))}")
    widths = list(settings.get("block_out_channels", (64,)))
    if stride != (found := 2 ** (len(widths) - 1)):
        raise ValueError(
            f"tokenizer.stride={stride}, but the {len(widths)} entries of tokenizer.network.block_out_channels="
            f"{widths} make a stride of {found}: every entry but the last halves the picture"
        )
    blocks = {f"{way}_block_types": [f"{name}Block2D"] * len(widths) for way, name in BLOCKS.items()}
    try:
        return network_class(**{**blocks, **settings, **ours})
    except (TypeError, ValueError) as error:
        raise ValueError(f"tokenizer.network={dict(settings)} makes no {kind}: {error}") from error


def read_network(kind: str, folder: str | Path) -> PublishedNetwork:
    """The weights of a local folder in diffusers' format.

    Args:
        kind: the class that must have written it.
        folder: `tokenizer.weights`.

    Raises:
        ValueError: if diffusers or one of the two files is missing, or they are damaged or of another kind.
    """
    network_class, path = _diffusers_class(kind), Path(folder)
    if missing := [name for name in (CONFIG, WEIGHTS) if not (path / name).is_file()]:
        raise ValueError(
            f"there is no {' and no '.join(missing)} in tokenizer.weights={folder}: give a folder that "
            f"save_pretrained of diffusers' {kind} wrote; other formats, pickles among them, are not read"
        )
    try:
        if (declared := json.loads((path / CONFIG).read_text()).get("_class_name")) != kind:
            raise ValueError(f"it holds a {declared}, but this tokenizer needs a {kind}")
        network, report = network_class.from_pretrained(
            path, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise ValueError(f"tokenizer.weights={folder} cannot be read: {' '.join(str(error).split())[:300]}") from error
    if faults := [f"{fault[:-5]} {', '.join(map(str, names[:3]))}" for fault, names in report.items() if names]:
        raise ValueError(f"tokenizer.weights={folder} does not fit its own {CONFIG}: {'; '.join(faults)}")
    return PublishedNetwork(plain_config(network), network.state_dict())


def plain_config(network: Any) -> dict[str, Any]:
    """The arguments of a network that decide what it computes, as plain data."""
    config = {key: value for key, value in network.config.items() if key not in INERT and not key.startswith("_")}
    return dict(json.loads(json.dumps(config)))


def check_same(found: Mapping[str, Any], wanted: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Refuses published weights of another layout than the settings ask for.

    Args:
        found: arguments of the published network.
        wanted: arguments of ours.
        names: the configuration's key of an argument, where it is not `tokenizer.network.ARGUMENT`.

    Raises:
        ValueError: naming every difference with both values.
    """
    held, asked = (
        {names.get(key, f"tokenizer.network.{key}"): of.get(key) for key in wanted} for of in (found, wanted)
    )
    if differing := differences(held, asked, "in the weights"):
        raise ValueError(f"tokenizer.weights does not fit: {differing}")


def _diffusers_class(kind: str) -> Any:
    try:
        library = import_module("diffusers")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"this tokenizer is a {kind} of diffusers, which is not installed: pip install 'gss[diffusers]'"
        ) from error
    return getattr(library, kind)
