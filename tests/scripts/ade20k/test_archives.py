"""What strangers' archives may not do: each attempt ends in one sentence, and leaves nothing behind."""

from __future__ import annotations

import shutil
import stat
import struct
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))

from ade20k.archives import Limits, unpack


@pytest.fixture
def pack(tmp_path):
    """Give a function that writes an archive of (name or ZipInfo, bytes)."""

    def packed(*entries, compression=zipfile.ZIP_DEFLATED):
        path = tmp_path / "there" / "a.zip"
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in entries:
                archive.writestr(name, content)
        return path

    return packed


def in_folder(tmp_path):
    return sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))


def refuse(archive, tmp_path, message, **settings):
    """Unpack, read the sentence, and see that nothing but the archive is there."""
    with pytest.raises(ValueError, match=message) as caught:
        unpack(archive, tmp_path / "out" / "data", **settings)
    assert str(archive) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert set(in_folder(tmp_path)) <= {"there", "there/a.zip", "out"}


def test_all_of_an_archive_arrives(pack, tmp_path):
    archive = pack(("a/b/1.txt", b"one"), ("empty/", b""), ("2.txt", b""))
    unpack(archive, tmp_path / "out" / "data")
    assert in_folder(tmp_path / "out") == ["data", "data/2.txt", "data/a", "data/a/b", "data/a/b/1.txt", "data/empty"]
    assert (tmp_path / "out/data/a/b/1.txt").read_bytes() == b"one"


def test_a_folder_of_the_archive_becomes_the_folder(pack, tmp_path):
    archive = pack(("set/images/1.txt", b"one"), ("__MACOSX/x", b"junk"))
    unpack(archive, tmp_path / "out" / "data", "set")
    assert in_folder(tmp_path / "out") == ["data", "data/images", "data/images/1.txt"]
    shutil.rmtree(tmp_path / "out" / "data")
    refuse(archive, tmp_path, r"has no folder 'other'; is it the archive that was meant", part="other")


def test_what_is_there_stays(pack, tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match=r"data' is there already; move it away"):
        unpack(pack(("1.txt", b"one")), tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../x", r"entry '\.\./x' leads out of the folder"),
        ("a/../../x", r"entry 'a/\.\./\.\./x' leads out"),
        ("/x", r"entry '/x' has an absolute path"),
        ("C:x", r"entry 'C:x' has an absolute path"),
        ("a\\..\\x", "has an absolute path, or one that only some systems understand"),
    ],
)
def test_a_name_that_leads_outside_is_refused_before_anything_is_written(pack, tmp_path, name, message):
    refuse(pack(("sound.txt", b"fine"), (name, b"evil")), tmp_path, message + ".*; nothing was unpacked")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK])
def test_links_and_devices_are_refused(pack, tmp_path, kind):
    entry = zipfile.ZipInfo("passwords")
    entry.create_system, entry.external_attr = 3, (kind | 0o777) << 16
    refuse(pack((entry, b"/etc/passwd")), tmp_path, r"entry 'passwords' is a link or a device, not a file")


def test_declared_sizes_and_numbers_have_limits(pack, tmp_path):
    archive = pack(("a", b"x" * 600), ("b", b"x" * 600))
    refuse(archive, tmp_path, r"entry 'a' declares 600 bytes, more than the 599 ", limits=Limits(member=599))
    refuse(archive, tmp_path, r"with the entry 'b' it unpacks to more than 1,199 bytes", limits=Limits(total=1199))
    refuse(archive, tmp_path, r"has 2 entries, more than the 1 that", limits=Limits(members=1))
    unpack(archive, tmp_path / "out" / "data", limits=Limits(member=600, total=1200, members=2))


def test_what_inflates_beyond_its_declaration_is_stopped_there(pack, tmp_path):
    archive = pack(("bomb", bytes(10_000_000)))
    content = archive.read_bytes()
    central = content.index(b"PK\x01\x02")
    lied = content[: central + 24] + struct.pack("<I", 1000) + content[central + 28 :]  # the uncompressed size there
    archive.write_bytes(lied)
    assert zipfile.ZipFile(archive).infolist()[0].file_size == 1000
    refuse(archive, tmp_path, r"entry 'bomb' does not hold what it declares .*get it again")


def test_damage_is_found(pack, tmp_path):
    archive = pack(("1.txt", b"content" * 100), compression=zipfile.ZIP_STORED)
    whole = archive.read_bytes()
    archive.write_bytes(whole.replace(b"contentcontent", b"contentCONTENT", 1))
    refuse(archive, tmp_path, r"entry '1\.txt' does not hold what it declares")
    archive.write_bytes(whole[:-30])
    refuse(archive, tmp_path, r"is no whole zip archive .*delete it and get it again")


def test_one_name_for_two_entries_is_refused(pack, tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive = pack(("a", b"1"), ("a", b"2"))
    refuse(archive, tmp_path, r"entry 'a' occurs twice")
    refuse(pack(("a", b"1"), ("a/b", b"2")), tmp_path, r"cannot unpack .*nothing was left there")
    refuse(pack(("a/b", b"1"), ("a//b", b"2")), tmp_path, r"cannot unpack .*nothing was left there")


def test_other_compressions_are_refused(pack, tmp_path):
    archive = pack(("a", b"1" * 100), compression=zipfile.ZIP_BZIP2)
    refuse(archive, tmp_path, r"entry 'a' is encrypted, or compressed in a way other than deflate")


def test_a_disk_without_room_is_said_before_anything_is_written(pack, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 2 * 10**6, 2 * 10**6))
    archive = pack(("a", bytes(2_500_000)))
    refuse(archive, tmp_path, r"unpacking .* needs 2\.5 MB, but '.*' has 2\.0 MB free; make room")
