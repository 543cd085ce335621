"""A file is whole or absent, whatever goes wrong and however many write it at once."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gss.atomic_files import write_json, write_whole, written_together, written_whole


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_new_file_and_its_folders_are_made(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "a.txt"
    with written_whole(target) as new:
        assert new.parent == target.parent
        assert not target.exists()
        new.write_text("whole")
        assert not target.exists()
    assert contents(target.parent) == {"a.txt": "whole"}


def test_a_failure_half_way_leaves_the_older_file_and_no_other(tmp_path: Path) -> None:
    def half_way() -> None:
        with written_whole(tmp_path / "a.txt") as new:
            new.write_text("ha")
            raise KeyboardInterrupt

    (tmp_path / "a.txt").write_text("older")
    with pytest.raises(KeyboardInterrupt):
        half_way()
    assert contents(tmp_path) == {"a.txt": "older"}


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_full_disk_leaves_the_older_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.txt").write_text("older")
    monkeypatch.setattr(os, name, full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "a.txt", "newer")
    assert contents(tmp_path) == {"a.txt": "older"}


def test_a_file_is_flushed_to_the_disk_before_it_takes_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []

    def noting(name: str, real: Callable[..., None], path_of: Callable[[object], str]) -> None:
        def noted(first: object, *others: object) -> None:
            done.append((name, path_of(first)))
            real(first, *others)

        monkeypatch.setattr(os, name, noted)

    noting("fsync", os.fsync, lambda handle: os.readlink(f"/proc/self/fd/{handle}"))
    noting("replace", os.replace, str)
    with written_whole(tmp_path / "a.txt") as new:
        new.write_text("whole")
    assert done == [("fsync", str(new)), ("replace", str(new)), ("fsync", str(tmp_path))]


def test_several_that_write_at_once_do_not_meet(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    with written_whole(target) as one, written_whole(target) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert contents(tmp_path) == {"a.txt": "one"}  # of the last to be finished
    texts = [str(number) * 10_000 for number in range(10)]
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda text: write_whole(target, text), texts))
    assert target.read_text() in texts
    assert len(contents(tmp_path)) == 1


@pytest.mark.parametrize("renamed", [0, 1, 2])
def test_a_note_never_stands_beside_another_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: int
) -> None:
    real, calls = os.replace, []

    def replace(source: Path, target: Path) -> None:
        if len(calls) == renamed:
            raise OSError(errno.EIO, "killed")
        calls.append(target)
        real(source, target)

    file, note = tmp_path / "a.bin", tmp_path / "a.json"
    file.write_text("older")
    note.write_text("of older")
    monkeypatch.setattr(os, "replace", replace)
    try:
        with written_together(file, note) as (new, new_note):
            new.write_text("newer")
            new_note.write_text("of newer")
    except OSError:
        assert renamed < 2
    held = [{"a.bin": "older"}, {"a.bin": "newer"}, {"a.bin": "newer", "a.json": "of newer"}]
    assert contents(tmp_path) == held[renamed]


def test_bytes_text_and_plain_data_are_written(tmp_path: Path) -> None:
    write_whole(tmp_path / "bytes", b"\x00\xff")
    write_whole(tmp_path / "text", "grün\n")
    write_json(tmp_path / "plain.json", {"miou": 0.5, "names": ["a"]})
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"
    assert (tmp_path / "text").read_bytes() == "grün\n".encode()
    assert (tmp_path / "plain.json").read_text() == '{\n  "miou": 0.5,\n  "names": [\n    "a"\n  ]\n}\n'
    with pytest.raises(TypeError):
        write_json(tmp_path / "plain.json", {"not": object()})
    assert json.loads((tmp_path / "plain.json").read_text())["miou"] == 0.5


def test_nothing_heavy_is_imported() -> None:
    program = "import sys, gss.atomic_files; print([name for name in ('torch', 'numpy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
