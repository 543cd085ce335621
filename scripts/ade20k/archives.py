"""Unpack zip archives of strangers: nothing lands outside the folder, nothing grows beyond what was agreed."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from gss.display.progress import track

_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
_PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CHUNK = 2**20


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to, in declared and in real bytes.

    Args:
        member: bytes of one file.
        total: bytes of all files.
        members: number of entries.
    """

    member: int = 2**28
    total: int = 2**36
    members: int = 1_000_000


def unpack(archive: Path, folder: Path, part: str | None = None, limits: Limits | None = None) -> None:
    """Unpack a zip archive into a folder that is not there yet; it gets its name when all of it is whole.

    All entries are judged by what they declare before the first is written. While unpacking, a file that does not hold
    what it declares, in size or checksum, ends it; so does a disk without room. What was written is removed then.

    Args:
        archive: the zip file.
        folder: made by this call.
        part: the folder in the archive that becomes `folder`; None: all of the archive.
        limits: what the archive may unpack to.

    Raises:
        ValueError: the folder is there, the archive is broken, too large, or has an entry that is no plain file or
            folder inside; one sentence that names the archive and the entry.
    """
    require_absent(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(archive) as opened, TemporaryDirectory(prefix=".unpacking.", dir=folder.parent) as place:
            entries = opened.infolist()
            total = _check_entries(archive, entries, limits or Limits())
            require_space(folder.parent, total, f"unpacking '{archive}'")
            unfinished = Path(place) / "all"
            unfinished.mkdir()
            for entry in track(entries, f"unpacking {archive.name}", unit="files"):
                _write_entry(archive, opened, entry, unfinished)
            whole = unfinished / (part or "")
            if not whole.is_dir():
                raise ValueError(f"'{archive}' has no folder '{part}'; is it the archive that was meant?")
            os.replace(whole, folder)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"'{archive}' is no whole zip archive ({error}); delete it and get it again") from error
    except OSError as error:
        raise ValueError(f"cannot unpack '{archive}' into '{folder}' ({error}); nothing was left there") from error


def require_absent(folder: Path) -> None:
    """Refuse a folder to unpack into that is there already, whatever it holds.

    Raises:
        ValueError: it is there.
    """
    if folder.exists():
        raise ValueError(f"'{folder}' is there already; move it away, or choose another folder to unpack into")


def require_space(folder: Path, num_bytes: int, purpose: str) -> None:
    """Refuse to begin what the disk has no room for.

    Args:
        folder: where it is to be written; it need not be there yet.
        num_bytes: what is to be written.
        purpose: what for, for the message.

    Raises:
        ValueError: there is less room; names both figures.
    """
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    if num_bytes > free:
        raise ValueError(
            f"{purpose} needs {num_bytes / 1e6:,.1f} MB, but '{there}' has {free / 1e6:,.1f} MB free; make room, or "
            "choose a folder on another disk"
        )


def _check_entries(archive: Path, entries: Sequence[zipfile.ZipInfo], limits: Limits) -> int:
    """Judge all entries by what they declare, and give their size together in bytes."""
    if len(entries) > limits.members:
        raise ValueError(
            f"'{archive}' has {len(entries):,} entries, more than the {limits.members:,} that are unpacked"
        )
    total, seen = 0, set()
    for entry in entries:
        if fault := _fault(entry, limits):
            raise ValueError(f"'{archive}': the entry '{entry.filename}' {fault}; nothing was unpacked")
        if entry.filename in seen:
            raise ValueError(f"'{archive}': the entry '{entry.filename}' occurs twice; nothing was unpacked")
        seen.add(entry.filename)
        total += entry.file_size
        if total > limits.total:
            raise ValueError(
                f"'{archive}': with the entry '{entry.filename}' it unpacks to more than {limits.total:,} bytes; "
                "nothing was unpacked"
            )
    return total


def _fault(entry: zipfile.ZipInfo, limits: Limits) -> str | None:
    """Say what is wrong with an entry's name, kind or declared size; None for nothing."""
    name, kind = entry.orig_filename, stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device, not a file"
    if name.startswith("/") or "\\" in name or ":" in name or "\0" in name:
        return "has an absolute path, or one that only some systems understand"
    if ".." in PurePosixPath(name).parts:
        return "leads out of the folder"
    if entry.flag_bits & 1 or entry.compress_type not in _PLAIN:  # other ways are read in pieces of any size
        return "is encrypted, or compressed in a way other than deflate"
    if entry.file_size > limits.member:
        return f"declares {entry.file_size:,} bytes, more than the {limits.member:,} that one file may have"
    return None


def _write_entry(archive: Path, opened: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    """Write one entry, and never more of it than it declares: the reader stops there, and its checksum fails."""
    target = folder / entry.filename
    if entry.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with opened.open(entry) as source, target.open("xb") as file:
            shutil.copyfileobj(source, file, _CHUNK)
    except _BROKEN as error:
        raise ValueError(
            f"'{archive}': the entry '{entry.filename}' does not hold what it declares ({error}); "
            "delete the archive and get it again"
        ) from error
