"""Linear X^-1, kept as ablations: the paper's least squares, which loses most classes, and the same with a bias."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gss.maskige.inverse import Inverse


class LeastSquares(Inverse):
    """c^ = x beta^+, the paper's X^-1: the one-hot class vector estimated linearly from the colour.

    The paper prints beta^+ = beta^T (beta beta^T)^-1. The product beta beta^T is K x K of rank 3, so for more than 3
    classes that inverse does not exist, and the Moore-Penrose inverse stands for it here. Even from noise-free colours
    it recovers few classes: a plane through the origin cannot be highest at every one of K colours.
    """

    def class_scores(self, maskige: Tensor, colours: Tensor) -> Tensor:
        """The estimate c^ itself, whose argmax is the paper's decision; it is not a distribution, its softmax is one.

        Args:
            maskige: (B, 3, H, W) float in [0, 1].
            colours: (K, 3) float32 in [0, 1], the palette (beta).

        Returns:
            Scores (B, K, H, W) float32.
        """
        weight = torch.linalg.pinv(colours.double()).float()
        return _affine_scores(maskige, weight, None)


class AffineLeastSquares(Inverse):
    """c^ = [x, 1] [beta, 1]^+: least squares with a column of ones beside the colours, so that planes have an offset.

    What the best affine decoder in the sense of least squares can do. The nearest colour is affine as well
    (`SoftDistance`), with other coefficients, and recovers every class.
    """

    def class_scores(self, maskige: Tensor, colours: Tensor) -> Tensor:
        """The estimate c^, as in `LeastSquares`.

        Args:
            maskige: (B, 3, H, W) float in [0, 1].
            colours: (K, 3) float32 in [0, 1], the palette (beta).

        Returns:
            Scores (B, K, H, W) float32.
        """
        beside = torch.cat([colours, torch.ones_like(colours[:, :1])], dim=1)
        solution = torch.linalg.pinv(beside.double()).float()  # (4, K)
        return _affine_scores(maskige, solution[:3], solution[3])


def _affine_scores(maskige: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W + b of each pixel: (B, 3, H, W), (3, K) and (K,) to (B, K, H, W), float32 throughout."""
    with torch.autocast(maskige.device.type, enabled=False):
        return nn.functional.conv2d(maskige.float(), weight.T[:, :, None, None], bias)
