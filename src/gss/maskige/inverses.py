"""The inverses by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from gss.maskige.inverse import Inverse, NearestColour, SoftDistance
from gss.maskige.linear import AffineLeastSquares, LeastSquares
from gss.maskige.residual import ConvolutionCorrection, ResidualInverse
from gss.maskige.windows import WindowCorrection


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
    if name not in INVERSES:
        raise ValueError(f"unknown maskige.inverse.name={name!r}: one of {', '.join(INVERSES)}")
    known = list(inspect.signature(INVERSES[name]).parameters)[2:]
    for setting in settings:
        if setting not in known:
            there_are = f"those are {', '.join(known)}" if known else "there are none"
            raise ValueError(
                f"maskige.inverse.{setting} is no setting of maskige.inverse.name={name} ({there_are}): "
                f"leave it out with ~maskige.inverse.{setting}"
            )
    return INVERSES[name](num_classes, temperature, **settings)


def _cnn(num_classes: int, temperature: float, hidden: int = 32) -> Inverse:
    return ResidualInverse(ConvolutionCorrection(num_classes, hidden), temperature)


def _shifted_window(
    num_classes: int, temperature: float, channels: int = 128, depth: int = 1, num_heads: int = 4, window_size: int = 7
) -> Inverse:
    correction = WindowCorrection(num_classes, channels, depth, num_heads, window_size)
    return ResidualInverse(correction, temperature)


INVERSES: dict[str, Callable[..., Inverse]] = {
    "nearest": lambda num_classes, temperature: NearestColour(),
    "least_squares": lambda num_classes, temperature: LeastSquares(),
    "affine": lambda num_classes, temperature: AffineLeastSquares(),
    "soft_distance": lambda num_classes, temperature: SoftDistance(temperature),
    "cnn": _cnn,
    "shifted_window": _shifted_window,
}
