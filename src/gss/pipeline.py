"""The arrows of the method in one file.

- posterior q(z | c):   labels -> maskige -> tokens
- prior p(z | image):   image -> token scores
- generation p(c | z):  token scores -> tokens or expected embedding -> maskige -> class_probs
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from gss.maskige.inverse import Inverse
from gss.maskige.transform import MaskigeTransform, enlarge_labels, pad_labels, reduce_class_probs
from gss.networks.conditioning import ConditioningNetwork, ConditioningOutput
from gss.networks.token_scores import TokenScores
from gss.registry import one_of
from gss.tokenizer.base import CellClasses, Decoded, Tokenizer

GENERATIVE_READOUTS = ("argmax", "expected")
PIXEL_READOUT = "pixel"


class Generation(ABC):
    """A segmentation of images; each of its three sides is computed when asked for, and costs nothing if it is not."""

    @abstractmethod
    def class_probs(self) -> Tensor:
        """(B, K, H, W) float32, sums to 1 over K."""

    @abstractmethod
    def maskige(self) -> Tensor | None:
        """(B, 3, scale * H, scale * W) float32 in [0, 1] as generated; None for the pixel readout."""

    def labels(self) -> Tensor:
        """Likeliest class of each pixel: (B, H, W) int64 in [0, K)."""
        return self.class_probs().max(dim=1).indices  # several times faster than argmax on this layout


@dataclass(frozen=True)
class PixelGeneration(Generation):
    """What the pixel head says: pixel_logits (B, K, H, W) float."""

    pixel_logits: Tensor

    def class_probs(self) -> Tensor:
        """(B, K, H, W) float32, sums to 1 over K."""
        return self.pixel_logits.float().softmax(dim=1)

    def maskige(self) -> None:
        """None: no maskige is generated."""

    def labels(self) -> Tensor:
        """(B, H, W) int64 in [0, K)."""
        return self.pixel_logits.max(dim=1).indices


@dataclass(frozen=True)
class DecodedGeneration(Generation):
    """A decoded maskige that has been read.

    Args:
        decoded: of whole cells.
        read: class_probs (B, K, H, W) float32, cut to the size that is wanted.
        scale: maskige pixels per image pixel, along each side.
    """

    decoded: Decoded
    read: Tensor
    scale: int

    def class_probs(self) -> Tensor:
        """(B, K, H, W) float32, sums to 1 over K."""
        return self.read

    def maskige(self) -> Tensor:
        """The part (B, 3, scale * H, scale * W) float32 in [0, 1] that is not padding."""
        height, width = self.read.shape[-2:]
        return self.decoded.maskige[..., : height * self.scale, : width * self.scale]


@dataclass(frozen=True)
class TokenGeneration(Generation):
    """What the scores of tokens generate, decoded once, and not at all for labels that can be had without.

    Args:
        autoencoder: decodes.
        prior: scores of (B, h, w) cells.
        readout: argmax or expected.
        size: (H, W).
    """

    autoencoder: MaskigeAutoencoder
    prior: TokenScores
    readout: str
    size: tuple[int, int]

    @cached_property
    def decoded(self) -> DecodedGeneration:
        """The maskige and what it says."""
        return self.autoencoder.read(self.autoencoder.decode_scores(self.prior, self.readout), self.size)

    def class_probs(self) -> Tensor:
        """(B, K, H, W) float32, sums to 1 over K."""
        return self.decoded.class_probs()

    def maskige(self) -> Tensor:
        """(B, 3, scale * H, scale * W) float32 in [0, 1]."""
        return self.decoded.maskige()

    def labels(self) -> Tensor:
        """(B, H, W) int64 in [0, K), from the tokens alone where each shows classes by itself."""
        cells = self.autoencoder.cell_classes
        if cells is None or "decoded" in vars(self):
            return self.decoded.labels()
        return self.autoencoder.cell_labels(self.prior, self.readout, self.size, cells)


class MaskigeAutoencoder(nn.Module):
    """Stage one: labels -> maskige -> tokens -> maskige -> class_probs, without any image.

    The maskige may be rendered larger than the image. The paper's tokenizer has stride 8 and its token grid a
    quarter of the image's sides, so its maskige is painted at scale 2. Labels of any size are padded to whole
    cells with the ignore colour, and what was padded is cut off again.

    Args:
        transform: X and its exact inverse.
        tokenizer: maskige to tokens and back.
        inverse: reads class probabilities off a decoded maskige.
        scale: maskige pixels per image pixel, along each side.
        native_probs: whether the class probabilities of a tokenizer that has its own are taken, and the inverse is
            asked only for one that has none; else the colours are always read.

    Raises:
        ValueError: unless `scale` divides the tokenizer's stride.
    """

    def __init__(
        self,
        transform: MaskigeTransform,
        tokenizer: Tokenizer,
        inverse: Inverse,
        scale: int = 1,
        native_probs: bool = True,
    ) -> None:
        super().__init__()
        self.transform, self.tokenizer, self.inverse = transform, tokenizer, inverse
        self.stride, self.scale, self.native_probs = token_stride(tokenizer.stride, scale), scale, native_probs

    def render(self, labels: Tensor) -> Tensor:
        """The labels that are painted: (B, H, W) int64 in [0, K) or 255, padded to whole cells and enlarged.

        Returns:
            labels (B, h * tokenizer.stride, w * tokenizer.stride) int64 in [0, K) or 255.
        """
        return enlarge_labels(pad_labels(labels, self.stride), self.scale)

    def paint(self, labels: Tensor) -> Tensor:
        """The maskige that is encoded: labels (B, H, W) int64 in [0, K) or 255, enlarged and padded to whole cells.

        Returns:
            maskige (B, 3, h * tokenizer.stride, w * tokenizer.stride) float32 in [0, 1].
        """
        return self.transform.paint(self.render(labels))

    def encode(self, labels: Tensor) -> Tensor:
        """The posterior's tokens of labels (B, H, W) int64 in [0, K) or 255.

        Returns:
            tokens (B, h, w) int64 in [0, V), with h = H / stride rounded up and w likewise.
        """
        return self.tokenizer.encode(self.paint(labels))

    def decode(self, tokens: Tensor, size: tuple[int, int] | None = None) -> DecodedGeneration:
        """What tokens (B, h, w) int64 in [0, V) show, cut to (H, W) `size`; None: whole cells."""
        return self.read(self.tokenizer.decode(tokens), size)

    def decode_scores(self, prior: TokenScores, readout: str) -> Decoded:
        """The maskige that the conditioning network's scores of (B, h, w) cells mean, by argmax or by expectation."""
        if readout == "argmax":
            return self.tokenizer.decode(prior.likeliest())
        return self.tokenizer.decode_mixed(prior.expected(self.tokenizer.code_blocks))

    def reconstruct(self, labels: Tensor) -> DecodedGeneration:
        """The ceiling's path: labels (B, H, W) int64 in [0, K) or 255 through tokens and back, at their own size."""
        return self.decode(self.encode(labels), (labels.shape[-2], labels.shape[-1]))

    def read(self, decoded: Decoded, size: tuple[int, int] | None = None) -> DecodedGeneration:
        """X^-1: class_probs (B, K, H, W) float32 of a decoded maskige, cut to (H, W) `size`; None: whole cells."""
        class_probs = decoded.class_probs
        if class_probs is None or not self.native_probs:
            class_probs = self.inverse(decoded.maskige, self.transform.colours)
        class_probs = reduce_class_probs(class_probs, self.scale)
        height, width = size or class_probs.shape[-2:]
        return DecodedGeneration(decoded, class_probs[..., :height, :width], self.scale)

    @property
    def cell_classes(self) -> CellClasses | None:
        """What each token shows by itself, if that is what it is believed to say at every pixel of an image."""
        return self.tokenizer.cell_classes if self.native_probs and self.scale == 1 else None

    def cell_labels(self, prior: TokenScores, readout: str, size: tuple[int, int], cells: CellClasses) -> Tensor:
        """Labels (B, H, W) int64 in [0, K) of the scores' cells, cut to (H, W) `size`, without class_probs."""
        if readout == "argmax":
            classes = cells.likeliest[prior.likeliest()]
        else:
            classes = prior.likeliest_classes(cells.probs, cells.least, cells.most)
        pixels = classes.unflatten(3, (self.stride, self.stride)).movedim(3, 2)  # (B, h, stride, w, stride)
        return torch.as_tensor(pixels.flatten(3, 4).flatten(1, 2)[:, : size[0], : size[1]])

    @torch.no_grad()
    def code_class_probs(self) -> Tensor:
        """What each token decodes to in a constant 3x3 token field: (V, K, stride, stride) float32, sums to 1 over K.

        The middle of the field is kept, so that a decoder that looks at neighbours finds the same token all around.
        """
        stride, fields = self.stride, []
        for tokens in torch.arange(self.tokenizer.vocab_size).split(256):
            field = tokens[:, None, None].expand(-1, 3, 3).to(self.transform.colours.device)
            class_probs = self.decode(field).class_probs()
            fields.append(class_probs[..., stride : 2 * stride, stride : 2 * stride])
        return torch.cat(fields)


def token_stride(tokenizer_stride: int, scale: int) -> int:
    """Image pixels per token: the tokenizer's stride is counted in maskige pixels, `scale` of them in each.

    Raises:
        ValueError: unless `scale` is a positive divisor of the tokenizer's stride.
    """
    if scale < 1 or tokenizer_stride % scale:
        raise ValueError(f"maskige.scale={scale} must be a positive divisor of tokenizer.stride={tokenizer_stride}")
    return tokenizer_stride // scale


class GenerativeSegmenter(nn.Module):
    """Stage two: the conditioning network in front of a frozen maskige autoencoder.

    Without an autoencoder it is the pixel twin, whose only readout is `pixel`.

    Args:
        network: the conditioning network.
        autoencoder: frozen here; stays in evaluation mode whatever `train()` says, but for an inverse that learns.
    """

    learns_inverse = False

    def __init__(self, network: ConditioningNetwork, autoencoder: MaskigeAutoencoder | None) -> None:
        super().__init__()
        self.network, self.autoencoder = network, autoencoder
        if autoencoder is not None:
            autoencoder.requires_grad_(False).eval()

    @property
    def readouts(self) -> tuple[str, ...]:
        """Ways from the network's output to labels, the most telling last."""
        return (PIXEL_READOUT,) if self.autoencoder is None else (PIXEL_READOUT, *GENERATIVE_READOUTS)

    def train(self, mode: bool = True) -> GenerativeSegmenter:
        """Switches the mode of what learns; what is frozen keeps its running statistics."""
        super().train(mode)
        if self.autoencoder is not None:
            self.autoencoder.eval()
            self.autoencoder.inverse.train(mode and self.learns_inverse)
        return self

    def learn_inverse(self) -> None:
        """Lets gradients reach X^-1, and nothing else of the autoencoder."""
        assert self.autoencoder is not None
        self.autoencoder.inverse.requires_grad_(True)
        self.learns_inverse = True
        self.train(self.training)

    def forward(self, image: Tensor, readout: str = "expected") -> Generation:
        """Segments images (B, 3, H, W) float32 in [0, 1] of any size."""
        return self.generate(self.network(image), readout)

    def generate(self, output: ConditioningOutput, readout: str) -> Generation:
        """Reads class_probs (B, K, H, W) float32 out of the token scores or the pixel_logits (B, K, H, W) float.

        `argmax` decodes the likeliest token of each cell (the paper); `expected` decodes the expected embedding under
        p(z | image), which gives graded probabilities; `pixel` takes the pixel head.

        Raises:
            ValueError: for a readout that this segmenter does not have.
        """
        self.check_readout(readout)
        if readout == PIXEL_READOUT:
            return PixelGeneration(output.pixel_logits)
        assert self.autoencoder is not None
        assert output.prior is not None
        return TokenGeneration(self.autoencoder, output.prior, readout, output.size)

    def read_each(self, output: ConditioningOutput, readouts: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """class_probs (B, K, H, W) float32 of one output by each readout, made one after the other when asked for.

        Raises:
            ValueError: for a readout that this segmenter does not have.
        """
        for readout in readouts:
            yield readout, self.generate(output, readout).class_probs()

    def check_readout(self, readout: str) -> None:
        """Raises a ValueError that lists the readouts unless this segmenter has the given one."""
        one_of(self.readouts, "readout", readout)
