"""What is handed out: the lock file is complete and closed, and a built wheel works from another folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
LOCK = (REPOSITORY / "requirements.lock").read_text()
ENTRIES = re.split(r"^(?=\S)", LOCK, flags=re.MULTILINE)[1:]  # one per package and range of Python versions
PINS = [tuple(entry.split()[0].split("==")) for entry in ENTRIES]
GROUPS = (
    "stage",
    "backbone",
    "hardware",
    "data",
    "maskige",
    "tokenizer",
    "token_model",
    "optim",
    "logger",
    "experiment",
)


def asked_for() -> list[str]:
    """Every requirement that pyproject.toml states, the builder's included."""
    groups = PYPROJECT["dependency-groups"].values()
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    stated = (PYPROJECT["build-system"]["requires"], PYPROJECT["project"]["dependencies"], *groups, *extras)
    return sorted({requirement for requirements in stated for requirement in requirements})


@pytest.mark.parametrize("requirement", asked_for())
def test_the_lock_meets_what_is_asked_for(requirement: str) -> None:
    asked = Requirement(requirement)
    pinned = [version for name, version in PINS if name == canonicalize_name(asked.name)]
    assert pinned
    assert [version for version in pinned if version not in asked.specifier] == []


def test_every_pin_carries_a_hash_and_no_host_is_named() -> None:
    assert [entry.split()[0] for entry in ENTRIES if "--hash=sha256:" not in entry] == []
    assert "://" not in LOCK
    assert "--" not in LOCK.replace("--hash=", "")  # no option such as an index address


def test_every_make_target_in_the_docs_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))
    pages = [REPOSITORY / ".ci/run", *REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")]
    named = {name for page in pages for name in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE)}
    assert {"demo", "test"} <= named <= targets


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution as a package index would get it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, REPOSITORY, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that holds the wheel, and sees our dependencies but not our checkout."""
    home = tmp_path_factory.mktemp("installed") / "env"
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    run(
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--offline",
        "--no-deps",
        "--python",
        python,
        wheel,
        cwd=home,
    )
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))  # .pth files inside are not followed
    return home / "bin"


def run(*command: str | Path, cwd: Path) -> str:
    """What a command writes when a stranger runs it: in another folder, without our PYTHONPATH."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_wheel_holds_every_module_and_every_config(wheel: Path) -> None:
    modules = [path.relative_to(REPOSITORY / "src").as_posix() for path in REPOSITORY.glob("src/gss/**/*.py")]
    configs = [f"gss/{path.relative_to(REPOSITORY).as_posix()}" for path in REPOSITORY.glob("conf/**/*.yaml")]
    assert configs
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith((".py", ".yaml"))}
    assert packed == {*modules, *configs}


def test_the_wheel_ships_types_and_licence(wheel: Path) -> None:
    packed = zipfile.ZipFile(wheel).namelist()
    assert "gss/py.typed" in packed
    assert any(name.endswith("licenses/LICENSE") for name in packed)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["module", "console script"])
def test_an_installed_wheel_lists_its_groups_from_another_folder(how: str, installed: Path, tmp_path: Path) -> None:
    command = [installed / "gss-train"] if how == "console script" else [installed / "python", "-m", "gss.train"]
    shown = run(*command, "--help", cwd=tmp_path)
    assert [group for group in GROUPS if not re.search(rf"\b{group}\b", shown)] == []


@pytest.mark.slow
@pytest.mark.parametrize("entry", ["train", "evaluate", "predict", "sample", "convert"])
def test_help_loads_nothing_heavy(entry: str, installed: Path, tmp_path: Path) -> None:
    shown = run(installed / "python", "-X", "importtime", "-m", f"gss.{entry}", "--help", cwd=tmp_path)
    loaded = set(re.findall(r"^import time:[^|]+\|[^|]+\|\s+(\S+)$", shown, flags=re.MULTILINE))
    assert "gss" in loaded
    assert {"torch", "lightning", "timm", "albumentations", "matplotlib"} & loaded == set()


@pytest.mark.slow
def test_an_installed_wheel_composes_its_own_configuration(installed: Path, tmp_path: Path) -> None:
    shown = run(installed / "gss-train", "stage=conditioning", "--cfg", "job", "--resolve", cwd=tmp_path)
    assert "gss.data.datamodule.SegmentationDataModule" in shown
    assert str(REPOSITORY) not in shown


@pytest.mark.slow
def test_an_installed_wheel_trains_in_another_folder(installed: Path, tmp_path: Path) -> None:
    few = [f"data.splits.{split}.num_scenes=2" for split in ("train", "val")]
    run(installed / "python", "-m", "gss.train", "stage=prior", "debug=fast", *few, cwd=tmp_path)
    assert (tmp_path / "outputs" / "prior" / "synthetic.safetensors").is_file()
    (config,) = (tmp_path / "outputs").glob("prior/*/*/config.yaml")
    assert str(REPOSITORY) not in config.read_text()
