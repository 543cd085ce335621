"""Checkpoint files under the faults that they are made for: full disk, kill, flipped bytes, foreign pickles."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gss.assembly.checkpoints import load_checkpoint, remove_checkpoint, save_checkpoint

OLD = {"weights": torch.arange(6.0).view(2, 3), "step": 1, "names": ["a", "b"]}
NEW = {"weights": torch.ones(2, 3), "step": 2, "names": []}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A checkpoint that is already there."""
    path = tmp_path / "run" / "last.ckpt"
    save_checkpoint(OLD, path)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def no_space(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


class MarkerMaker:
    """Unpickling this runs a command that leaves a marker."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def test_what_is_written_comes_back(target: Path) -> None:
    loaded = load_checkpoint(target)
    assert torch.equal(loaded.pop("weights"), OLD["weights"])
    assert loaded == {"step": 1, "names": ["a", "b"]}


def test_the_sidecar_is_what_sha256sum_checks(target: Path) -> None:
    sidecar = target.with_name("last.ckpt.sha256")
    assert sidecar.read_text() == f"{hashlib.sha256(target.read_bytes()).hexdigest()}  last.ckpt\n"
    subprocess.run(["sha256sum", "--check", sidecar.name], cwd=target.parent, check=True, capture_output=True)


def test_a_newer_checkpoint_takes_the_place_of_the_older(target: Path) -> None:
    save_checkpoint(NEW, target)
    assert load_checkpoint(str(target))["step"] == 2
    assert sorted(contents(target.parent)) == ["last.ckpt", "last.ckpt.sha256"]


def test_others_may_read_it_as_the_umask_says(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    save_checkpoint(NEW, tmp_path / "new.ckpt")
    assert (tmp_path / "new.ckpt").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("place", ["os.fsync", "torch.save"])
def test_a_full_disk_leaves_the_older_file_alone(target: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    before = contents(target.parent)
    monkeypatch.setattr(place, no_space)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(NEW, target)
    assert contents(target.parent) == before


def test_an_interrupted_write_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(checkpoint: Any, file: io.BufferedWriter) -> None:
        file.write(b"PK half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(NEW, tmp_path / "last.ckpt")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("survived", [0, 1])
def test_a_kill_between_the_two_renames_leaves_a_file_that_loads(
    target: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    real, calls = os.replace, []

    def replace(source: Path, destination: Path) -> None:
        calls.append(destination)
        if len(calls) > survived:
            raise OSError(errno.EIO, "killed")
        real(source, destination)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="killed"):
        save_checkpoint(NEW, target)
    assert load_checkpoint(target)["step"] == (NEW if survived else OLD)["step"]


def test_the_temporary_folder_is_not_used(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(target.parent / "missing"))
    save_checkpoint(NEW, target)
    assert load_checkpoint(target)["step"] == 2


def test_a_flipped_byte_is_noticed(target: Path) -> None:
    damaged = bytearray(target.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    target.write_bytes(damaged)
    digest = hashlib.sha256(damaged).hexdigest()[:12]
    with pytest.raises(ValueError, match=rf"last\.ckpt' is damaged: its sha256 is {digest}"):
        load_checkpoint(target)


def test_a_file_cut_off_is_noticed_without_its_sha256_too(target: Path) -> None:
    target.write_bytes(target.read_bytes()[:-200])
    target.with_name("last.ckpt.sha256").unlink()
    with pytest.raises(ValueError, match=r"last\.ckpt' is no checkpoint, or it was cut off"):
        load_checkpoint(target)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint '.*absent\.ckpt'"):
        load_checkpoint(tmp_path / "absent.ckpt")


@pytest.mark.parametrize("form", ["torch.save", "pickle"])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, form: str) -> None:
    path, marker = tmp_path / "bad.ckpt", tmp_path / "marker"
    payload = {"state_dict": MarkerMaker(marker)}
    if form == "torch.save":
        torch.save(payload, path)
    else:
        path.write_bytes(pickle.dumps(payload))
    with pytest.raises(ValueError, match=r"bad\.ckpt' (was refused|is no checkpoint)"):
        load_checkpoint(path)
    assert not marker.exists()
    with contextlib.suppress(RuntimeError):  # a bare pickle runs its code, and only then is found to be no file
        torch.load(io.BytesIO(path.read_bytes()), weights_only=False)
    assert marker.exists()  # the payload works: it was the refusal that held it back


def test_removing_takes_the_sidecar_along(target: Path) -> None:
    remove_checkpoint(target)
    assert contents(target.parent) == {}
    remove_checkpoint(target)


def test_a_link_is_checked_against_what_it_points_to(target: Path) -> None:
    link = target.with_name("best.ckpt")
    link.symlink_to(target.name)
    assert load_checkpoint(link)["step"] == 1
    target.write_bytes(target.read_bytes() + b"x")
    with pytest.raises(ValueError, match="sha256"):
        load_checkpoint(link)
