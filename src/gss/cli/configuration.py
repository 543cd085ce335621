"""Where the configuration lies, what it may name, and how it becomes plain data and objects."""

from __future__ import annotations

import netrc
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf

ALLOWED_TARGETS = (
    "gss.",
    "torch.optim.",
    "lightning.pytorch.callbacks.",
    "lightning.pytorch.loggers.",
    "albumentations.",
)


def config_dir() -> Path:
    """The folder `conf/`: inside the installed package, or beside `src/` in a checkout."""
    package = Path(__file__).resolve().parents[1]  # src/gss
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def register_resolvers() -> None:
    """Makes `${gss.absolute:PATH}`, `${gss.data_folder:}`, `${gss.wandb_offline:}` and `${gss.groups:}` known."""
    OmegaConf.register_new_resolver("gss.absolute", lambda path: str(Path(path).absolute()), replace=True)
    OmegaConf.register_new_resolver("gss.data_folder", data_folder, replace=True)
    OmegaConf.register_new_resolver("gss.wandb_offline", _wandb_offline, replace=True)
    OmegaConf.register_new_resolver("gss.groups", _groups_in_words, replace=True)


def to_plain(config: DictConfig) -> dict[str, Any]:
    """The configuration with every interpolation resolved, as dicts, lists and numbers."""
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def instantiate(node: Any) -> Any:
    """Makes the objects that a node describes, after every `_target_` in it was checked.

    A configuration file can come from anywhere, and `_target_` calls what it names; Hydra's own block list lets loaders
    such as `torch.load` through.

    Args:
        node: a configuration node, or plain data.

    Raises:
        ValueError: for a `_target_` outside `ALLOWED_TARGETS`, or with the words of the target that refused its values.
    """
    config = node if isinstance(node, DictConfig | ListConfig) else OmegaConf.create(node)
    for target in _targets(config):
        _check_target(str(target))
    try:
        return hydra.utils.instantiate(config)
    except InstantiationException as error:
        cause: BaseException = error
        while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
            cause = cause.__cause__
        raise ValueError(" ".join(str(cause).split())) from error


def instantiate_each(nodes: Mapping[str, Any] | None) -> list[Any]:
    """The objects of a mapping name -> node (callbacks, loggers), in order; names set to null are left out."""
    return [instantiate(node) for node in (nodes or {}).values() if node is not None]


def _without_cache(settings: Any) -> Any:
    """The settings of a data set without its caches: they are of the machine that trained, not of the data.

    Args:
        settings: plain data, as a checkpoint or an artefact keeps it.
    """
    if isinstance(settings, Mapping):
        return {key: None if key == "cache" else _without_cache(value) for key, value in settings.items()}
    return settings


def visited_data(given: Mapping[str, Any] | None, own: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The settings of the data set that a command visits.

    Args:
        given: on the command line: all settings of a data set (`data=NAME`), or some to change (`+data/adverse=drawn`).
        own: of the data set that the weights came from, as plain data; None where that is not known.

    Returns:
        those given, else `own` with what is given changed and without its caches; None where neither says enough.
    """
    if given and "_target_" in given:
        return dict(given)
    if own is None:
        return None
    merged = OmegaConf.to_container(OmegaConf.merge(_without_cache(own), given or {}))
    return cast(dict[str, Any], merged)


def _check_target(target: str) -> None:
    """Refuses what is not allowed by name, or lies elsewhere: `gss.pipeline.torch.load` leads through an import."""
    home = target
    if target.startswith(ALLOWED_TARGETS):
        try:
            found = hydra.utils.get_object(target)
        except (ImportError, ValueError) as error:
            raise ValueError(f"_target_: {target} does not exist") from error
        home = str(getattr(found, "__module__", None))
    if not f"{home}.".startswith(ALLOWED_TARGETS):
        raise ValueError(f"_target_: {target} is not allowed; targets begin with {', '.join(ALLOWED_TARGETS)}")


def _targets(node: Any) -> Iterator[Any]:
    if isinstance(node, Mapping | DictConfig):
        if "_target_" in node:
            yield node["_target_"]
        for key in node:
            yield from _targets(node[key])
    elif isinstance(node, list | tuple | ListConfig):
        for item in node:
            yield from _targets(item)


def data_folder() -> str:
    """The absolute folder that data sets are looked for in: $GSS_DATA, else the first of data and ../shared/data."""
    named = os.environ.get("GSS_DATA")
    places = [Path(named)] if named else [Path("data"), Path("../shared/data")]
    return str(next((place for place in places if place.is_dir()), places[0]).absolute())


def _wandb_offline() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return False
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is None
    except (FileNotFoundError, netrc.NetrcParseError):
        return True


def is_option(name: str) -> bool:
    """Whether a file of a group, by its name without ending, can be chosen: `_base` is only derived from."""
    return not name.startswith("_")


def _groups_in_words() -> str:
    """A line for each group of `conf/` with its options, for `--help`; Hydra's own listing shows `_base` files too."""
    options: dict[str, list[str]] = {}
    for path in sorted(config_dir().glob("*/**/*.yaml")):
        group = path.parent.relative_to(config_dir()).as_posix()
        if is_option(path.stem) and not group.startswith("hydra"):
            options.setdefault(group, []).append(path.stem)
    return "\n".join(f"{group}: {', '.join(names)}" for group, names in sorted(options.items()))
