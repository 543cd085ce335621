"""A name of the configuration, looked up among those that there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def lookup(registry: Mapping[str, Any], key: str, name: str) -> Any:
    """The entry of a registry, or a ValueError that names the config key and what there is."""
    if name not in registry:
        raise ValueError(f"unknown {key}={name!r}: one of {', '.join(registry)}")
    return registry[name]
