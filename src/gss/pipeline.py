"""The arrows of the method in one file.

- posterior q(z | c):   labels -> maskige -> tokens
- prior p(z | image):   image -> prior_logits
- generation p(c | z):  prior_logits -> tokens or expected embedding -> maskige -> class_probs
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gss.maskige.inverse import SoftDistance
from gss.maskige.transform import MaskigeTransform
from gss.networks.conditioning import ConditioningNetwork, ConditioningOutput
from gss.tokenizer.protocol import Decoded, Tokenizer

GENERATIVE_READOUTS = ("argmax", "expected")
PIXEL_READOUT = "pixel"


@dataclass(frozen=True)
class Generation:
    """A segmentation of a photograph.

    Args:
        class_probs: (B, K, H, W) float32, sums to 1 over K.
        maskige: (B, 3, H, W) float32 in [0, 1] as generated; None for the pixel readout.
    """

    class_probs: Tensor
    maskige: Tensor | None

    @property
    def labels(self) -> Tensor:
        """Likeliest class of each pixel: (B, H, W) int64 in [0, K)."""
        return self.class_probs.max(dim=1).indices  # several times faster than argmax on this layout


class MaskigeAutoencoder(nn.Module):
    """Stage one: labels -> maskige -> tokens -> maskige -> class_probs, without any photograph.

    Args:
        transform: X and its exact inverse.
        tokenizer: maskige to tokens and back.
        inverse: reads class probabilities off a decoded maskige where the tokenizer has none of its own.
    """

    def __init__(self, transform: MaskigeTransform, tokenizer: Tokenizer, inverse: SoftDistance) -> None:
        super().__init__()
        self.transform, self.tokenizer, self.inverse = transform, tokenizer, inverse

    def encode(self, labels: Tensor) -> Tensor:
        """The posterior's tokens (B, h, w) int64 in [0, V) of labels (B, H, W) int64 in [0, K) or 255."""
        return self.tokenizer.encode(self.transform.paint(labels))

    def decode(self, tokens: Tensor) -> Generation:
        """What tokens (B, h, w) int64 in [0, V) show."""
        return self.read(self.tokenizer.decode(tokens))

    def reconstruct(self, labels: Tensor) -> Generation:
        """The ceiling's path: labels (B, H, W) int64 in [0, K) or 255 through tokens and back."""
        return self.decode(self.encode(labels))

    def read(self, decoded: Decoded) -> Generation:
        """X^-1: class_probs (B, K, H, W) float32 of a decoded maskige (B, 3, H, W) float32 in [0, 1]."""
        class_probs = decoded.class_probs
        if class_probs is None:
            class_probs = self.inverse(decoded.maskige, self.transform.colours)
        return Generation(class_probs, decoded.maskige)

    @torch.no_grad()
    def code_class_probs(self) -> Tensor:
        """What each token decodes to, amid its equals: (V, K, stride, stride) float32, sums to 1 over K.

        A 3x3 field of one token is decoded and its middle kept, so that a decoder that looks at neighbours sees a
        constant surrounding.
        """
        stride, fields = self.tokenizer.stride, []
        for tokens in torch.arange(self.tokenizer.vocab_size).split(256):
            field = tokens[:, None, None].expand(-1, 3, 3).to(self.transform.colours.device)
            class_probs = self.read(self.tokenizer.decode(field)).class_probs
            fields.append(class_probs[..., stride : 2 * stride, stride : 2 * stride])
        return torch.cat(fields)


class GenerativeSegmenter(nn.Module):
    """Stage two: the conditioning network in front of a frozen maskige autoencoder.

    Without an autoencoder it is the pixel twin, whose only readout is `pixel`.

    Args:
        network: the conditioning network.
        autoencoder: frozen here; stays in evaluation mode whatever `train()` says.
    """

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
        """Switches the network's mode; the frozen autoencoder keeps its running statistics."""
        super().train(mode)
        if self.autoencoder is not None:
            self.autoencoder.eval()
        return self

    def forward(self, image: Tensor, readout: str = "expected") -> Generation:
        """Segments photographs (B, 3, H, W) float32 in [0, 1] whose sides are multiples of the stride."""
        return self.generate(self.network(image), readout)

    def generate(self, output: ConditioningOutput, readout: str) -> Generation:
        """Reads class_probs (B, K, H, W) out of prior_logits (B, V, h, w) float or pixel_logits (B, K, H, W) float.

        `argmax` decodes the likeliest token of each cell (the paper); `expected` decodes the expected embedding under
        p(z | image), which gives graded probabilities; `pixel` takes the pixel head.

        Raises:
            ValueError: for a readout that this segmenter does not have.
        """
        self.check_readout(readout)
        if readout == PIXEL_READOUT:
            return Generation(output.pixel_logits.float().softmax(dim=1), None)
        assert self.autoencoder is not None
        assert output.prior_logits is not None
        tokenizer = self.autoencoder.tokenizer
        if readout == "argmax":
            return self.autoencoder.read(tokenizer.decode(output.prior_logits.argmax(dim=1)))
        return self.autoencoder.read(tokenizer.decode_expected(output.prior_logits.float().softmax(dim=1)))

    def check_readout(self, readout: str) -> None:
        """Raises a ValueError that lists the readouts unless this segmenter has the given one."""
        if readout not in self.readouts:
            raise ValueError(f"readout={readout!r} is not one of {', '.join(self.readouts)}")
