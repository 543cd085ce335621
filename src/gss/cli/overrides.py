"""Mistyped keys and values, caught before anything heavy is imported: one sentence with the nearest valid names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gss.cli.configuration import config_dir, is_option

_SWEEP_FLAGS = {"-m", "--multirun"}


def check_overrides(config_name: str, arguments: Sequence[str]) -> None:
    """Checks the overrides of a command line against the groups, keys and types of the configuration.

    Args:
        config_name: the primary configuration.
        arguments: the command line without the program.

    Raises:
        ValueError: one sentence for the first override that names no group option or key, or has another type.
    """
    if any(argument.startswith("-") and argument not in _SWEEP_FLAGS for argument in arguments):
        return  # --help, --cfg and the like: Hydra's own business
    texts = [argument for argument in arguments if argument not in _SWEEP_FLAGS]
    try:
        overrides = OverridesParser.create().parse_overrides(texts)
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            groups = [override for override in overrides if _options(override.key_or_group)]
            for override in groups:
                options = _options(override.key_or_group)
                for choice in [] if override.is_delete() else _choices(override):
                    if str(choice) not in options:
                        near = nearest(str(choice), options)
                        raise ValueError(f"{override.key_or_group}={choice} is not an option of that group; {near}")
            placed = [override for override in groups if override.package is not None]
            config = compose(config_name, [_first_choice(override) for override in groups if override not in placed])
            for override in placed:
                _check_place(override, config)
            config = compose(config_name, [_first_choice(override) for override in groups]) if placed else config
            for override in overrides:
                if override not in groups and not override.is_hydra_override():
                    _check_key(override, config)
    except HydraException as error:
        text = " ".join(str(error).split())
        if "You must specify 'stage'" in text:
            text = f"no stage was given: say stage=prior or stage=conditioning (configuration {config_name})"
        raise ValueError(text) from error


def nearest(name: str, names: Iterable[str]) -> str:
    """The names most like a mistyped one, or all of them where none is like it."""
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"nearest: {', '.join(close)}" if close else f"there are: {', '.join(known)}"


def _options(group: str) -> list[str]:
    loader = GlobalHydra.instance().config_loader()
    return [name for name in loader.get_group_options(group, results_filter=ObjectType.CONFIG) if is_option(name)]


def _choices(override: Override) -> list[Any]:
    if override.is_sweep_override():
        return list(override.sweep_string_iterator())
    value = override.value()
    return value if isinstance(value, list) else [value]


def _first_choice(override: Override) -> str:
    if not override.is_sweep_override():
        return override.input_line or ""
    return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"


def _check_place(override: Override, config: DictConfig) -> None:
    """Refuses a group placed where nothing reads it: `+data@data.elsewhere.acdc=acdc` needs data.elsewhere."""
    node = config
    for name in str(override.package).split(".")[:-1]:
        child = node.get(name)
        if not isinstance(child, DictConfig):
            why = "it is a plain value" if name in node else nearest(name, map(str, node))
            raise ValueError(f"{override.get_key_element()}: there is no mapping {name} to put a group into; {why}")
        node = child


def _check_key(override: Override, config: DictConfig) -> None:
    node: Any = config
    *parents, last = override.key_or_group.split(".")
    for parent in parents:
        node = _child(node, parent, override)
    if override.is_add() or override.is_force_add() or override.is_delete():
        return
    known = _child(node, last, override)
    if not override.is_sweep_override():
        _check_type(override.key_or_group, known, override.value())
    for value in override.sweep_iterator() if override.is_choice_sweep() else ():  # ranges are the sweeper's business
        _check_type(override.key_or_group, known, value)


def _child(node: Any, name: str, override: Override) -> Any:
    if isinstance(node, ListConfig) and name.isdigit() and int(name) < len(node):
        return node[int(name)]
    if not isinstance(node, DictConfig):
        raise ValueError(f"there is no key {override.key_or_group}: {name} lies below a plain value")
    if name not in list(node) and not override.is_add() and not override.is_force_add():
        raise ValueError(f"there is no key {override.key_or_group}; {nearest(name, map(str, node))}")
    try:
        return node.get(name)
    except OmegaConfBaseException:  # a value known only at run time, such as the run's folder
        return None


def _check_type(key: str, known: Any, value: Any) -> None:
    expected = _kind(known)
    found = _kind(value)
    fits = expected in (None, found) or (expected, found) in {("a number", "a whole number"), ("a list", "a list")}
    if value is None and expected == "a mapping":  # a callback or logger left out
        return
    if expected == "text":  # numbers and paths make valid text
        fits = found not in ("a list", "a mapping")
    if not fits:
        shown = OmegaConf.to_container(known) if isinstance(known, DictConfig | ListConfig) else repr(known)
        raise ValueError(f"{key}={value} should be {expected}, as in its default {shown}")


def _kind(value: Any) -> str | None:
    kinds: list[tuple[type | tuple[type, ...], str]] = [
        (bool, "true or false"),
        (int, "a whole number"),
        (float, "a number"),
        ((list, ListConfig), "a list"),
        ((dict, DictConfig), "a mapping"),
    ]
    if value is None:
        return None
    return next((name for kind, name in kinds if isinstance(value, kind)), "text")
