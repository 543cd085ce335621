"""Commands as a user starts them: another process, another folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of somebody who set nothing of ours; compiled modules are kept for the session."""
    ours = ("GSS_", "HYDRA_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    compiled = str(tmp_path_factory.mktemp("compiled"))
    return {**kept, "PYTHONPATH": str(SOURCE), "PYTHONPYCACHEPREFIX": compiled, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def start(tmp_path: Path, stranger: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Give a function that runs `python -m gss.COMMAND ...` in the folder `work` and returns how it ended."""
    work = tmp_path / "work"
    work.mkdir()

    def started(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", f"gss.{command}", *arguments]
        return subprocess.run(words, capture_output=True, text=True, cwd=work, env=stranger, timeout=600)

    return started
