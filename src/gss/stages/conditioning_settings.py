"""From the group stage of a configuration to what `ConditioningStage` is told of targets and losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor

from gss.pipeline import MaskigeAutoencoder
from gss.posteriors import build_posterior
from gss.stages.objective import Objective
from gss.targets import IgnorePolicy
from gss.transform_learning import check_inverse_learns


def training_settings(
    config: Mapping[str, Any], autoencoder: MaskigeAutoencoder | None, codes: Tensor | None = None
) -> dict[str, Any]:
    """Objective, ignore policy and posterior, as arguments by name.

    Args:
        config: plain data with the groups stage, maskige and tokenizer.
        autoencoder: of the training; None for the pixel twin, which has no posterior.
        codes: (V, K, stride, stride) float32, what `asked_codes` gives.

    Raises:
        ValueError: for a setting that does not exist or is out of range, or an inverse that cannot learn.
    """
    stage = config["stage"]
    objective = Objective(**{field.name: stage[field.name] for field in fields(Objective)})
    if objective.inverse_weight and autoencoder is not None:
        names = config["tokenizer"]["name"], config["maskige"]["inverse"]["name"]
        check_inverse_learns(autoencoder, *names, f"stage.inverse_weight={objective.inverse_weight}")
    return {
        "objective": objective,
        "ignore_policy": IgnorePolicy(stage["ignore_policy"], stage["fill_warmup"]),
        "posterior": None if autoencoder is None else build_posterior(**stage["posterior"], codes=codes),
    }


def asked_codes(config: Mapping[str, Any], autoencoder: MaskigeAutoencoder | None) -> Tensor | None:
    """What each token decodes to, (V, K, stride, stride) float32, if losses or targets ask for it.

    A large decoder takes long for it, so it is decoded once; a tied head for which nobody did decodes by itself.
    """
    stage = config["stage"]
    asked = stage["class_balance"] or stage["posterior"]["name"] == "smoothed"
    return autoencoder.code_class_probs() if asked and autoencoder is not None else None
