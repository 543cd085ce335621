"""X^-1: from the colours of a decoded maskige to a distribution over classes.

By the distance to the palette's colours, or, as ablations, linearly: the paper's least squares, which loses most
classes, and the same with a bias.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Inverse(nn.Module, ABC):
    """Reads classes off a maskige, given the palette as it is now.

    A class sets `differentiable`: False where no gradient reaches the colours, so that they cannot be learned with it.
    """

    differentiable = True

    @abstractmethod
    def class_scores(self, maskige: Tensor, colours: Tensor) -> Tensor:
        """Log-probabilities up to a constant per pixel, which is what cross-entropy trains on.

        Args:
            maskige: (B, 3, H, W) float in [0, 1].
            colours: (K, 3) float32 in [0, 1], the palette.

        Returns:
            Scores (B, K, H, W) float32.
        """

    def forward(self, maskige: Tensor, colours: Tensor) -> Tensor:
        """The softmax of the scores, class_probs (B, K, H, W) float32, of a maskige (B, 3, H, W) in colours (K, 3)."""
        return self.class_scores(maskige, colours).softmax(dim=1)

    @property
    def trainable(self) -> bool:
        """Whether it has weights of its own."""
        return next(self.parameters(), None) is not None


class SoftDistance(Inverse):
    """p(k | x) proportional to exp(-|x - colour_k|^2 / temperature): its argmax is the nearest colour.

    The squared distance is affine in the colours up to a term that all classes share,
    2 x . colour_k - |colour_k|^2, so it costs one 1x1 convolution (gss-method note: nearest colour as affine scores).

    Args:
        temperature: in squared 8-bit colour units; 900 is the value of Semantic Prism (arXiv 2608.11537).

    Raises:
        ValueError: if `temperature` is not positive.
    """

    def __init__(self, temperature: float = 900.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"maskige.temperature must be positive, got {temperature}")
        self.temperature = temperature / 255**2

    def class_scores(self, maskige: Tensor, colours: Tensor) -> Tensor:
        """(B, K, H, W): minus the squared distance over the temperature, without the part that all classes share."""
        with torch.autocast(maskige.device.type, enabled=False):  # bf16 distances would tie (8 bits of mantissa)
            scores = 2 * nn.functional.conv2d(maskige.float(), colours[:, :, None, None], -colours.square().sum(1) / 2)
            return scores / self.temperature


class NearestColour(Inverse):
    """All probability to the class of the nearest colour, as the released code decodes; of equally near ones the first.

    It is the limit of `SoftDistance` as the temperature falls to zero.
    """

    differentiable = False

    def __init__(self) -> None:
        super().__init__()
        self.distance = SoftDistance()

    def class_scores(self, maskige: Tensor, colours: Tensor) -> Tensor:
        """(B, K, H, W): 0 for the nearest colour and minus infinity for the others."""
        scores = self.distance.class_scores(maskige, colours)
        return torch.full_like(scores, -torch.inf).scatter_(1, scores.argmax(1, keepdim=True), 0.0)


class LeastSquares(Inverse):
    """c^ = x beta^+, the paper's X^-1: the one-hot class vector estimated linearly from the colour.

    The paper prints beta^+ = beta^T (beta beta^T)^-1. The product beta beta^T is K x K of rank 3, so for more than 3
    classes that inverse does not exist, and the Moore-Penrose inverse stands for it here. Even from noise-free colours
    it recovers few classes: a plane through the origin cannot be highest at every one of K colours.
    """

    def class_scores(self, maskige: Tensor, colours: Tensor) -> Tensor:
        """The estimate c^ (B, K, H, W) itself, whose argmax is the paper's decision, and its softmax a distribution.

        The colours (K, 3) are the paper's beta.
        """
        weight = torch.linalg.pinv(colours.double()).float()
        return _affine_scores(maskige, weight, None)


class AffineLeastSquares(Inverse):
    """c^ = [x, 1] [beta, 1]^+: least squares with a column of ones beside the colours, so that planes have an offset.

    What the best affine decoder in the sense of least squares can do. The nearest colour is affine as well
    (`SoftDistance`), with other coefficients, and recovers every class.
    """

    def class_scores(self, maskige: Tensor, colours: Tensor) -> Tensor:
        """The estimate c^ (B, K, H, W), as in `LeastSquares`."""
        beside = torch.cat([colours, torch.ones_like(colours[:, :1])], dim=1)
        solution = torch.linalg.pinv(beside.double()).float()  # (4, K)
        return _affine_scores(maskige, solution[:3], solution[3])


def _affine_scores(maskige: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W + b of each pixel: (B, 3, H, W), (3, K) and (K,) to (B, K, H, W), float32 throughout."""
    with torch.autocast(maskige.device.type, enabled=False):
        return nn.functional.conv2d(maskige.float(), weight.T[:, :, None, None], bias)
