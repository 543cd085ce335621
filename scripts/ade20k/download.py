"""Fetch a large file over HTTP: resumed where it broke off, checked by its hash, under its name only when whole."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from rich import get_console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TimeRemainingColumn, TransferSpeedColumn

from ade20k.archives import require_space

MOST_TRIES = 5
"""How often in a row a download may break off without having come further than ever before."""

MOST_BYTES = 2**34
"""No larger file is fetched, whatever the server says or sends."""

SILENCE = 30.0
"""Seconds without a byte after which a connection counts as broken."""

_CHUNK = 2**20
_BROKEN = (OSError, http.client.HTTPException)


class Checksum(NamedTuple):
    """What a file's bytes must hash to; the algorithm as `hashlib` names it."""

    algorithm: str
    hexdigest: str


@dataclass(frozen=True)
class _Origin:
    """Where the bytes of an unfinished file come from: a server knows by the validator if it has that file still."""

    url: str
    validator: str | None = None
    size: int | None = None


class _BrokenOffError(Exception):
    """The connection or the server failed in a way that another try may mend."""


def fetch(url: str, target: Path, checksum: Checksum | None, pause: float = 1.0) -> None:
    """Download a file. A file that is there already is checked, and not fetched again.

    Bytes are collected in `TARGET.part`. When a download breaks off, or the process ends, the next try asks for the
    missing bytes alone (`Range`), and only if the server's file is still the same (`If-Range`); else it begins anew.

    Args:
        url: http or https.
        target: its final name; the folder is made.
        checksum: what the whole file must hash to; None: its size alone is checked.
        pause: seconds before the first repetition, doubled before each further one.

    Raises:
        ValueError: the server does not have the file or fails for long, the disk has no room, or the file is another
            than the checksum says; one sentence with the way out.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"'{url}' is no address that begins with http:// or https://")
    if target.exists():
        _require_checksum(target, checksum)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    _receive_patiently(url, part, pause)
    _require_checksum(part, checksum)
    os.replace(part, target)
    _note(part).unlink(missing_ok=True)


def _receive_patiently(url: str, part: Path, pause: float) -> None:
    """Try until all is there, or until nothing was gained several times in a row."""
    furthest, failures = _size(part), 0
    while True:
        try:
            _receive(url, part)
            return
        except _BrokenOffError as error:
            failures = 0 if _size(part) > furthest else failures + 1
            furthest = max(furthest, _size(part))
            if failures == MOST_TRIES:
                raise ValueError(
                    f"'{url}' broke off {failures} times after {_size(part):,} bytes ({error}); call the same command "
                    "again to go on from there"
                ) from error
            time.sleep(pause * 2**failures)


def _receive(url: str, part: Path) -> None:
    """Ask for what is missing, and write it."""
    origin, have = _known(part, url), _size(part)
    headers = {"Accept-Encoding": "identity", "User-Agent": "gss"}
    if have and origin.validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": origin.validator}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=SILENCE)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have == origin.size:
            return
        _refuse(error, url, part)
    except _BROKEN as error:
        raise _BrokenOffError(str(error)) from error
    with answer:
        start = _first_byte(answer, part) if answer.status == 206 else 0
        length = answer.headers.get("Content-Length", "")
        end = start + int(length) if length.isdigit() else None
        _require_size(url, part, start, end)
        if start == 0:
            _begin(part, _Origin(url, _validator(answer), end))
        received = _write(answer, part, start, end)
    if end is not None and received < end:
        raise _BrokenOffError(f"{received:,} of {end:,} bytes came")


def _refuse(error: urllib.error.HTTPError, url: str, part: Path) -> None:
    """Raise what an error of the server means: try again, or give up."""
    if error.code == 416:  # the file there is another by now
        part.unlink(missing_ok=True)
    if error.code in (408, 416, 429) or error.code >= 500:
        raise _BrokenOffError(f"answer {error.code} {error.reason}") from error
    raise ValueError(
        f"'{url}' answered {error.code} {error.reason}; if the file has moved, give its new address (--url)"
    ) from error


def _first_byte(answer: http.client.HTTPResponse, part: Path) -> int:
    """Give the position that a partial answer begins at, which must be the first missing one."""
    said = answer.headers.get("Content-Range", "")
    found = re.match(r"bytes (\d+)-\d+/", said)
    if not found or int(found[1]) != _size(part):
        part.unlink(missing_ok=True)
        raise _BrokenOffError(f"another piece came than was asked for, '{said}'")
    return int(found[1])


def _require_size(url: str, part: Path, start: int, end: int | None) -> None:
    """Refuse a file that is too large, for us or for the disk."""
    if end is not None and end > MOST_BYTES:
        raise ValueError(f"'{url}' has {end:,} bytes, more than the {MOST_BYTES:,} that are fetched; check the address")
    if end is not None:
        require_space(part.parent, end - start, f"downloading '{url}'")


def _write(answer: http.client.HTTPResponse, part: Path, start: int, end: int | None) -> int:
    """Append what comes, and give the file's size then."""
    received = start
    with _disk_errors_said(part), part.open("r+b" if start else "wb") as file, _bar(part, start, end) as (bar, task):
        file.seek(start)
        while chunk := _next_chunk(answer):
            file.write(chunk)
            received += len(chunk)
            bar.update(task, completed=received)
            if received > MOST_BYTES:
                raise ValueError(f"'{part}' has grown beyond {MOST_BYTES:,} bytes; check the address, and delete it")
    return received


def _next_chunk(answer: http.client.HTTPResponse) -> bytes:
    """Read what has come; what fails here is the connection, not the disk."""
    try:
        return answer.read1(_CHUNK)
    except _BROKEN as error:
        raise _BrokenOffError(str(error)) from error


@contextmanager
def _disk_errors_said(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(f"cannot write '{part}' ({error}); make room, and call the same command again") from error


@contextmanager
def _bar(part: Path, start: int, end: int | None) -> Iterator[tuple[Progress, TaskID]]:
    """Show how much has come, how fast, and how long the rest takes; not in log files."""
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    console = get_console()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield bar, bar.add_task(part.stem, total=end, completed=start)


def _validator(answer: http.client.HTTPResponse) -> str | None:
    """Give what tells this version of the file from later ones; weak tags may not be asked for by `If-Range`."""
    tag: str | None = answer.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")


def _begin(part: Path, origin: _Origin) -> None:
    """Throw away what there is, and note where the new bytes come from; in this order, so that they never mix."""
    part.unlink(missing_ok=True)
    with _disk_errors_said(part):
        _note(part).write_text(json.dumps(asdict(origin)))


def _known(part: Path, url: str) -> _Origin:
    """Read the note on an unfinished file; without a usable one for this address, nothing is known of its bytes."""
    try:
        origin = _Origin(**json.loads(_note(part).read_text()))
    except (OSError, ValueError, TypeError):
        return _Origin(url)
    return origin if origin.url == url else _Origin(url)


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _require_checksum(path: Path, checksum: Checksum | None) -> None:
    """Refuse, and for an unfinished file delete, what is not the file that was meant."""
    if checksum is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.new(checksum.algorithm, usedforsecurity=False)).hexdigest()
    if found == checksum.hexdigest.lower():
        return
    unfinished = path.suffix == ".part"
    if unfinished:
        path.unlink()
    raise ValueError(
        f"'{path}' has the {checksum.algorithm} {found}, not {checksum.hexdigest}: it is damaged, or another file; "
        + ("it was deleted, so call the same command again" if unfinished else "delete it and call again")
    )
