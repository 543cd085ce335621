"""A 1x1 convolution and its BatchNorm as one linear map, known before the convolution is carried out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def folded(features: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The linear map that norm(convolution(features)) is.

    While training, BatchNorm needs mean and variance of the convolution's outputs over all cells. Of a linear map they
    follow from those of its inputs, W m and diag(W S W^T) with their covariance S, so a wide output never exists, and
    a loss can go through its cells some at a time. Gradients pass through both as through BatchNorm itself.

    Args:
        features: (B, C, h, w) float.
        convolution: 1x1, without bias.
        norm: its BatchNorm; running statistics are kept as it keeps them.

    Returns:
        weight (D, C) and bias (D,), float32, or float64 for such features.
    """
    wide = torch.promote_types(features.dtype, torch.float32)
    weight = convolution.weight.flatten(1).to(wide)
    with torch.autocast(features.device.type, enabled=False):  # statistics want full precision
        if norm.training:
            cells = features.movedim(1, -1).flatten(0, 2).to(wide)
            mean, covariance = checkpoint(_moments, cells, use_reentrant=False)
            mean, variance = weight @ mean, ((weight @ covariance) * weight).sum(dim=1)
            _keep(norm, mean.detach(), variance.detach(), len(cells))
        else:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            mean, variance = norm.running_mean, norm.running_var
        gain = norm.weight * (variance + norm.eps).rsqrt()
        return gain[:, None] * weight, norm.bias - gain * mean


def _moments(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (C,) and covariance (C, C) of cells (N, C) float, without a degree of freedom taken off."""
    mean = cells.mean(dim=0)
    centred = cells - mean
    return mean, centred.T @ centred / len(cells)


def _keep(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Moves the running statistics towards those of this batch, the variance without its bias."""
    assert norm.momentum is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    unbiased = variance * (count / max(count - 1, 1))
    norm.num_batches_tracked.add_(1)
    norm.running_mean.lerp_(mean.to(norm.running_mean), norm.momentum)
    norm.running_var.lerp_(unbiased.to(norm.running_var), norm.momentum)
