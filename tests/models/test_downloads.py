"""Downloads, from a server on this machine that can be told to misbehave."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from facewright.errors import WeightsError
from facewright.models.downloads import CHUNK, Remote, fetch, pinned

BODY = np.random.default_rng(0).integers(0, 256, 3 * CHUNK + 77, np.uint8).tobytes()
SHA256 = hashlib.sha256(BODY).hexdigest()


@dataclass
class Site:
    """What the server does, and what it was asked."""

    address: str = ""
    body: bytes = BODY
    tag: str = '"v1"'
    cut_after: int | None = None  # bytes of a body, then the connection ends
    ranges: bool = True
    shift: int = 0  # added to the beginning of a range it claims to send
    redirect: str = ""
    status: int = 200
    length: bool = True  # whether it says how long the body is
    asked: list[str | None] = field(default_factory=list)  # the Range of each request

    def start(self, headers: dict[str, str]) -> int:
        self.asked.append(headers.get("Range"))
        given = headers.get("Range", "")
        if not (given and self.ranges and headers.get("If-Range") == self.tag):
            return 0
        return int(given.removeprefix("bytes=").removesuffix("-"))


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site = self.site
        start = site.start(dict(self.headers.items()))
        if site.redirect or site.status >= 400:
            self.send_response(302 if site.redirect else site.status)
            self.send_header("Location", site.redirect)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if start > len(site.body):
            self.send_error(416)
            return
        rest = site.body[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start + site.shift}-{len(site.body) - 1}/{len(site.body)}")
        if site.length:
            self.send_header("Content-Length", str(len(rest)))
        self.send_header("ETag", site.tag)
        self.end_headers()
        self.wfile.write(rest if site.cut_after is None else rest[: site.cut_after])

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def site() -> Iterator[Site]:
    state = Site()
    handler = type("Bound", (Handler,), {"site": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_port}/weights.bin"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def remote(site: Site, sha256: str = SHA256, most_bytes: int = 2**30) -> Remote:
    return Remote(site.address, sha256, most_bytes, frozenset({"127.0.0.1"}))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "weights" / "net.bin"


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if not path.name.startswith("."))


def test_a_file_comes_whole_once(site: Site, target: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert fetch(remote(site), target, lambda done, total: seen.append((done, total))) == SHA256
    assert target.read_bytes() == BODY
    assert left(target) == ["net.bin", "net.bin.sha256"]
    assert seen[-1] == (len(BODY), len(BODY)) and [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert fetch(remote(site), target) == SHA256
    assert len(site.asked) == 1  # the second time asks nobody


def test_a_beginning_of_the_checksum_is_enough_and_the_whole_holds_from_then_on(site: Site, target: Path) -> None:
    assert fetch(remote(site, SHA256[:8]), target) == SHA256
    assert (target.parent / "net.bin.sha256").read_text().strip() == SHA256
    target.write_bytes(BODY[:-1])
    with pytest.raises(WeightsError, match="wrong checksum"):
        fetch(remote(site, SHA256[:8]), target)


def test_half_a_download_goes_on_from_there(site: Site, target: Path) -> None:
    site.cut_after = CHUNK + 5
    with pytest.raises(WeightsError, match=f"ended after {CHUNK + 5:,} of {len(BODY):,} bytes"):
        fetch(remote(site), target)
    assert left(target) == ["net.bin.part", "net.bin.part.json"]
    site.cut_after = None
    seen: list[int] = []
    assert fetch(remote(site), target, lambda done, total: seen.append(done)) == SHA256
    assert site.asked == [None, f"bytes={CHUNK + 5}-"]
    assert seen[0] > CHUNK + 5 and target.read_bytes() == BODY


def test_a_killed_download_leaves_only_its_beginning(site: Site, target: Path) -> None:
    def kill(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(remote(site), target, kill)
    assert left(target) == ["net.bin.part", "net.bin.part.json"]
    assert fetch(remote(site), target) == SHA256
    assert site.asked[1] == f"bytes={CHUNK}-"


# what changes between the two requests; each time the file is fetched anew, whole
@pytest.mark.parametrize("change", ["no ranges", "new version", "no validator", "too long", "other address"])
def test_what_cannot_be_continued_starts_over(site: Site, target: Path, change: str) -> None:
    site.cut_after = CHUNK
    with pytest.raises(WeightsError, match="ended after"):
        fetch(remote(site), target)
    site.cut_after = None
    part, note = target.with_name("net.bin.part"), target.with_name("net.bin.part.json")
    match change:
        case "no ranges":
            site.ranges = False
        case "new version":
            site.tag = '"v2"'
        case "no validator":
            note.unlink()
        case "too long":
            part.write_bytes(bytes(len(BODY) + 9))
        case "other address":
            note.write_text(json.dumps({"address": "https://elsewhere.example", "validator": '"v1"'}))
    assert fetch(remote(site), target) == SHA256
    assert target.read_bytes() == BODY


def test_a_wrong_checksum_is_refused_and_removed(site: Site, target: Path) -> None:
    with pytest.raises(WeightsError, match=r"wrong checksum: expected SHA-256 00000000…, got .* removed"):
        fetch(remote(site, "0" * 8), target)
    assert left(target) == []


def test_a_longer_file_than_allowed_is_not_downloaded(site: Site, target: Path) -> None:
    for site.length in (True, False):  # said in advance, or found out
        with pytest.raises(WeightsError, match=r"more than 1,000 bytes"):
            fetch(remote(site, most_bytes=1000), target)
        assert not target.exists()


def test_a_body_of_unknown_length_is_held_to_the_checksum(site: Site, target: Path) -> None:
    site.length = False
    assert fetch(remote(site), target) == SHA256
    target.unlink()
    site.cut_after = CHUNK
    with pytest.raises(WeightsError, match="wrong checksum"):
        fetch(remote(site), target)
    assert not target.exists()


# what goes wrong -> said so, with the address and the place for the file
@pytest.mark.parametrize("fault", ["gone", "offline", "wrong range"])
def test_what_cannot_be_had_names_the_address_and_the_folder(site: Site, target: Path, fault: str) -> None:
    wanted = remote(site)
    match fault:
        case "gone":
            site.status = 404
        case "offline":
            wanted = Remote("http://127.0.0.1:9/net.bin", SHA256, plain_hosts=frozenset({"127.0.0.1"}))
        case "wrong range":
            site.cut_after, site.shift = CHUNK, 1
            with pytest.raises(WeightsError, match="ended after"):
                fetch(wanted, target)
    with pytest.raises(WeightsError) as caught:
        fetch(wanted, target)
    for words in ("net.bin", wanted.address, str(target)):
        assert words in str(caught.value)
    assert not target.exists()


@pytest.mark.parametrize("to", ["http://elsewhere.example/x", "file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_only_https_is_followed(site: Site, target: Path, to: str) -> None:
    site.redirect = to
    with pytest.raises(WeightsError, match=r"only https|not allowed"):
        fetch(remote(site), target)
    with pytest.raises(WeightsError, match="only https"):
        fetch(Remote(to, SHA256), target)
    with pytest.raises(WeightsError, match="only https"):  # this machine too, unless a test says otherwise
        fetch(Remote(site.address, SHA256), target)


def test_a_file_put_there_by_hand_is_checked(target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(BODY)
    assert fetch(Remote("https://nowhere.invalid/x", SHA256[:8]), target) == SHA256
    target.with_name("net.bin.sha256").unlink()
    with pytest.raises(WeightsError, match="wrong checksum"):
        pinned(target, "f" * 64)
