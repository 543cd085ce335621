"""What the configuration says, held against what there is: names are looked up, settings compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def lookup(registry: Mapping[str, T], key: str, name: str) -> T:
    """What a name of the configuration stands for.

    Args:
        registry: everything that there is, by name.
        key: of the configuration, for the message.
        name: its value.

    Raises:
        ValueError: naming the key, its value and all names that there are.
    """
    return registry[one_of(registry, key, name)]


def one_of(names: Iterable[str], key: str, name: str) -> str:
    """The same name, if it is among those that there are; else the ValueError of `lookup`."""
    known = list(names)
    if name not in known:
        raise ValueError(f"unknown {key}={name!r}: one of {', '.join(known)}")
    return name


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any], place: str) -> str:
    """The settings in which a file is not as the configuration asks: `KEY is X in the file but Y in the configuration`.

    Args:
        found: settings of the file by key of the configuration; all of them are compared.
        wanted: settings of the configuration; one that it lacks counts as None.
        place: where the first were found, in words.

    Returns:
        Every difference, joined by semicolons; empty where there is none.
    """
    return "; ".join(
        f"{key} is {value!r} {place} but {wanted.get(key)!r} in the configuration"
        for key, value in found.items()
        if value != wanted.get(key)
    )
