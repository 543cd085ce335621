"""How every command starts: Hydra composes and saves the configuration, then the run starts from the saved file.

Child processes of a distributed run, and every trial of a sweep, start from that file too (`--resolved PATH`) and never
from the command line, which each process would compose anew, with other folders and, in a sweep, other values.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from gss.atomic_files import write_json, write_whole
from gss.cli.configuration import config_dir, register_resolvers
from gss.cli.overrides import check_overrides

RESOLVED = "--resolved"
RESULT_FILE = "result.json"
ERROR_FILE = "error.txt"  # what went wrong, where there is no result
Task = Callable[[DictConfig], dict[str, Any]]


def run(task: Task, command: str, config_name: str) -> None:
    """Runs a task as `python -m gss.<command>` or `gss-<command>`.

    Args:
        task: gets the composed configuration and returns plain results, kept as `result.json` in the run's folder; an
            `exit_code` among them other than 0 becomes that of the command.
        command: train, evaluate or predict.
        config_name: the primary configuration in `conf/`.

    A ValueError is a user's mistake: its sentence is printed and the exit code is 2. With GSS_TRACEBACK=1 it is raised.
    """
    wait_patiently()
    register_resolvers()
    if RESOLVED in sys.argv[1:2]:
        one_sentence(lambda: _run_saved(task, Path(sys.argv[2])))
        return
    if {"--help", "-h"} & set(sys.argv) and config_name == "config":
        sys.argv.append("stage=prior")  # Hydra composes before it lists the groups, and no stage is chosen yet
    one_sentence(lambda: check_overrides(config_name, sys.argv[1:]))
    saved, failed = _compose(command, config_name)
    if failed:
        sys.exit(f"error: {len(failed)} of the sweep's runs failed: {', '.join(failed)}")
    if saved is not None:
        sys.argv[1:] = [RESOLVED, str(saved)]
        one_sentence(lambda: _run_saved(task, saved))


def wait_patiently() -> None:
    """Lets idle OpenMP threads sleep instead of spin; call it before torch is imported.

    On a CPU the data workers need the cores that spinning threads hold: on two busy cores a training step took two to
    five times as long with the default.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def is_first_process() -> bool:
    """Whether this process writes and tells: the first of a distributed run on this machine, or the only one."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def _compose(command: str, config_name: str) -> tuple[Path | None, list[str]]:
    """Lets Hydra compose; gives the saved file of a single run (a sweep has run by then), and the failed trials."""
    single: list[Path] = []
    failed: list[str] = []

    def job(config: DictConfig) -> float | None:
        """What Hydra calls for each composed configuration."""
        saved = Path(HydraConfig.get().runtime.output_dir) / "config.yaml"
        if HydraConfig.get().mode == RunMode.RUN:
            one_sentence(lambda: _save(config, saved))
            single.append(saved)
            return None
        if not _run_trial(config, command, saved):
            failed.append(f"{saved.parent.name} ({' '.join(HydraConfig.get().overrides.task)})")
            return float("nan")
        return float(json.loads((saved.parent / RESULT_FILE).read_text())["objective"])

    hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=config_name)(job)()
    return (single[0] if single else None), failed


def _run_trial(config: DictConfig, command: str, saved: Path) -> bool:
    """Runs one trial of a sweep in a process of its own; tells whether it left a result, or else an error."""
    result, error = saved.with_name(RESULT_FILE), saved.with_name(ERROR_FILE)
    for stale in (result, error):  # a sweep may be repeated in the same folder
        stale.unlink(missing_ok=True)
    try:
        _save(config, saved)
    except ValueError as mistake:  # of this trial; the others may be complete
        write_whole(error, f"{mistake}\n")
        return False
    code = subprocess.run([sys.executable, "-m", f"gss.{command}", RESOLVED, str(saved)], check=False).returncode
    if code and not error.is_file():
        write_whole(error, f"ended with exit code {code}\n")
    return not code


def _save(config: DictConfig, saved: Path) -> None:
    missing = sorted(_missing_keys(OmegaConf.to_container(config)))
    if missing:
        raise ValueError(f"a value is needed for {', '.join(missing)}: give {missing[0]}=VALUE")
    write_whole(saved, OmegaConf.to_yaml(config, resolve=True))


def _missing_keys(node: Any, above: str = "") -> Iterator[str]:
    """Keys whose value is `???`, also where others interpolate them (`OmegaConf.missing_keys` stops there)."""
    if node == "???":
        yield above
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, child in children:
        yield from _missing_keys(child, f"{above}.{name}" if above else str(name))


def _run_saved(task: Task, saved: Path) -> None:
    config = OmegaConf.load(saved)
    assert isinstance(config, DictConfig)
    OmegaConf.set_struct(config, True)
    try:
        result = task(config)
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        write_whole(saved.with_name(ERROR_FILE), f"{kind}{' '.join(str(error).split())}\n")
        raise
    if is_first_process():
        write_json(saved.with_name(RESULT_FILE), result)
    if code := result.get("exit_code"):
        sys.exit(code)


def one_sentence(action: Callable[[], None]) -> None:
    """Runs an action; a ValueError in it is a user's mistake: its sentence is printed and the exit code is 2."""
    try:
        action()
    except ValueError as error:
        if os.environ.get("GSS_TRACEBACK"):
            raise
        logging.getLogger(__name__).debug("the error in full", exc_info=True)
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
