"""Downloads from a server on this machine that misbehaves in every way that a far one may."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))

from ade20k import download
from ade20k.download import Checksum, fetch

CONTENT = np.random.default_rng(0).bytes(300_000)
SUM = Checksum("sha1", hashlib.sha1(CONTENT).hexdigest())


class Server(ThreadingHTTPServer):
    """Serves one file; the attributes say how."""

    content = CONTENT
    tag: str | None = '"first"'
    date: str | None = None
    cut: tuple[int, ...] = ()  # bytes after which the first, second, ... answer breaks off
    ranges = True
    codes: tuple[int, ...] = ()  # what the first, second, ... request is answered with
    shift = 0  # how far a partial answer begins from where it should
    chunked = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, str]] = []
        self.sent = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/a.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        it, number = self.server, len(self.server.asked)
        it.asked.append(dict(self.headers))
        if number < len(it.codes):
            self.send_error(it.codes[number])
            return
        start, same = self.headers.get("Range"), self.headers.get("If-Range") in (it.tag, it.date)
        first = int(start.removeprefix("bytes=").rstrip("-")) if start and it.ranges and same else 0
        if first and first >= len(it.content):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = it.content[first:]
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first + it.shift}-{len(it.content) - 1}/{len(it.content)}")
        for name, value in (("ETag", it.tag), ("Last-Modified", it.date)):
            if value:
                self.send_header(name, value)
        if it.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = it.cut[number] if number < len(it.cut) else len(body)
        it.sent += len(body[:cut])
        whole = f"{len(body):x}\r\n".encode() + body[:cut] if it.chunked else body[:cut]
        self.wfile.write(whole + (b"\r\n0\r\n\r\n" if it.chunked and cut == len(body) else b""))
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "SILENCE", 5.0)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join(5)


@pytest.fixture
def get(server, tmp_path):
    """Give a function that fetches, and gives the bytes that arrived under the final name, alone in the folder."""

    def got(checksum=SUM):
        fetch(server.url, tmp_path / "far" / "a.zip", checksum, pause=0)
        assert [path.name for path in (tmp_path / "far").iterdir()] == ["a.zip"]
        return (tmp_path / "far" / "a.zip").read_bytes()

    return got


def test_a_file_arrives_and_a_second_call_asks_nobody(server, get):
    assert get() == CONTENT
    assert get() == CONTENT
    assert len(server.asked) == 1


def test_what_broke_off_is_resumed_for_the_missing_bytes_alone(server, get):
    server.cut = (100_000, 50_000)
    assert get() == CONTENT
    assert [asked.get("Range") for asked in server.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert {asked.get("If-Range") for asked in server.asked[1:]} == {'"first"'}
    assert server.sent == len(CONTENT)


def test_a_later_process_goes_on(server, get, tmp_path, monkeypatch):
    server.cut = (100_000, 0)  # the second try gains nothing, so the first process gives up
    monkeypatch.setattr(download, "MOST_TRIES", 1)
    with pytest.raises(ValueError, match=r"a\.zip' broke off 1 times .*100,000 of 300,000.*again to go on from there"):
        get()
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert (tmp_path / "far" / "a.zip.part").stat().st_size == 100_000
    assert get() == CONTENT
    assert server.sent == len(CONTENT)


def test_a_server_that_ignores_ranges_sends_all_of_it_again(server, get):
    server.cut, server.ranges = (100_000,), False
    assert get() == CONTENT
    assert server.sent == len(CONTENT) + 100_000


def test_a_file_that_changed_meanwhile_is_begun_anew(server, get, tmp_path):
    part = tmp_path / "far" / "a.zip.part"
    part.parent.mkdir()
    part.write_bytes(b"old" * 1000)
    part.with_name("a.zip.part.json").write_text(f'{{"url": "{server.url}", "validator": "\\"zero\\"", "size": 9999}}')
    assert get() == CONTENT
    assert server.asked[0]["If-Range"] == '"zero"'


@pytest.mark.parametrize("note", [None, "{", "[]", '{"url": "http://other/"}', '{"validator": 3}'])
def test_bytes_of_unknown_origin_are_thrown_away(server, get, tmp_path, note):
    part = tmp_path / "far" / "a.zip.part"
    part.parent.mkdir()
    part.write_bytes(b"old")
    if note:
        part.with_name("a.zip.part.json").write_text(note)
    assert get() == CONTENT
    assert "Range" not in server.asked[0]


def test_a_weak_tag_is_not_asked_for_but_the_date_is(server, get):
    server.tag, server.date, server.cut = 'W/"weak"', "Wed, 21 Oct 2015 07:28:00 GMT", (100_000,)
    assert get() == CONTENT
    assert server.asked[1]["If-Range"] == server.date


def test_without_tag_and_date_a_broken_download_begins_anew(server, get):
    server.tag, server.cut = None, (100_000,)
    assert get() == CONTENT
    assert "Range" not in server.asked[1]


def test_a_piece_from_elsewhere_is_not_taken(server, get):
    server.cut, server.shift = (100_000,), 7
    assert get() == CONTENT


def test_a_part_that_is_whole_already_is_only_renamed(server, get, tmp_path):
    part = tmp_path / "far" / "a.zip.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT)
    note = f'{{"url": "{server.url}", "validator": "\\"first\\"", "size": {len(CONTENT)}}}'
    part.with_name("a.zip.part.json").write_text(note)
    assert get() == CONTENT
    assert server.sent == 0


def test_a_part_that_is_too_long_is_begun_anew(server, get, tmp_path):
    part = tmp_path / "far" / "a.zip.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT + b"more")
    note = f'{{"url": "{server.url}", "validator": "\\"first\\"", "size": {len(CONTENT)}}}'
    part.with_name("a.zip.part.json").write_text(note)
    assert get() == CONTENT
    assert server.sent == len(CONTENT)


def test_a_server_out_of_breath_is_asked_again(server, get):
    server.codes = (503, 429, 500)
    assert get() == CONTENT


def test_a_server_that_never_gets_further_is_given_up(server, get):
    server.codes = (503,) * 20
    with pytest.raises(ValueError, match=r"broke off 5 times after 0 bytes \(answer 503 .*call the same command again"):
        get()
    assert len(server.asked) == 5


def test_a_server_that_ignores_ranges_and_always_breaks_is_given_up(server, get):
    server.cut, server.ranges = (1000,) * 99, False
    with pytest.raises(ValueError, match="broke off 5 times after 1,000 bytes"):
        get()
    assert len(server.asked) == 6


def test_a_missing_file_is_said_at_once(server, get):
    server.codes = (404,)
    with pytest.raises(ValueError, match=r"a\.zip' answered 404 Not Found; .*new address"):
        get()
    assert len(server.asked) == 1


def test_nobody_at_the_address_is_a_broken_connection(server, tmp_path):
    server.server_close()
    with pytest.raises(ValueError, match=r"broke off 5 times after 0 bytes \(.*refused"):
        fetch(server.url, tmp_path / "a.zip", SUM, pause=0)


def test_only_the_web_is_asked(tmp_path):
    with pytest.raises(ValueError, match=r"'file:///etc/passwd' is no address that begins with http"):
        fetch("file:///etc/passwd", tmp_path / "a.zip", None)


@pytest.mark.parametrize("cut", [(), (100_000,)])
def test_a_length_that_is_not_said_ends_with_the_last_chunk(server, get, cut):
    server.chunked, server.cut = True, cut
    assert get() == CONTENT


def test_another_file_than_the_sum_says_is_deleted(server, get, tmp_path):
    wrong = Checksum("sha256", "0" * 64)
    found = hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(ValueError, match=rf"a\.zip\.part' has the sha256 {found}, not 0{{64}}.*it was deleted"):
        get(wrong)
    assert not (tmp_path / "far" / "a.zip").exists()
    assert get(Checksum("sha256", found.upper())) == CONTENT


def test_a_file_that_is_there_is_checked_and_left(server, get, tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.zip").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"a\.zip' has the sha1 .*delete it and call again"):
        get()
    assert (tmp_path / "far" / "a.zip").read_bytes() == b"mine"
    assert server.asked == []


def test_a_disk_without_room_is_said_before_the_first_byte(server, get, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**9, 10**9 - 10**5, 10**5))
    with pytest.raises(ValueError, match=r"downloading '.*a\.zip' needs 0\.3 MB, but '.*far' has 0\.1 MB free"):
        get()
    assert list((tmp_path / "far").iterdir()) == []


def test_a_disk_that_fills_up_keeps_what_came(server, get, tmp_path, monkeypatch):
    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def seek(self, place):
            self.file.seek(place)

        def write(self, chunk):
            self.file.write(chunk[:1000])
            raise OSError(28, "No space left on device")

    opened = type(tmp_path).open
    monkeypatch.setattr(
        type(tmp_path),
        "open",
        lambda path, mode="r", *a, **k: Full(opened(path, mode)) if mode == "wb" else opened(path, mode, *a, **k),
    )
    with pytest.raises(ValueError, match=r"cannot write '.*a\.zip\.part' .*No space left.*; make room"):
        get()
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert get() == CONTENT
    assert server.asked[1]["Range"] == "bytes=1000-"


@pytest.mark.parametrize("chunked", [False, True])
def test_no_more_is_taken_than_the_limit(server, get, monkeypatch, chunked):
    monkeypatch.setattr(download, "MOST_BYTES", 200_000)
    server.chunked = chunked
    message = "has grown beyond 200,000 bytes" if chunked else r"has 300,000 bytes, more than the 200,000 that"
    with pytest.raises(ValueError, match=message):
        get()
