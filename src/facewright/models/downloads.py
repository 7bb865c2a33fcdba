"""One file from the network, whole and checked or not at all.

    <folder>/<name>.part        what has come so far; a download that is stopped goes on from here
    <folder>/<name>.part.json   which version of the file that is (address, validator)
    <folder>/<name>             the file: its checksum was right when it was renamed to this
    <folder>/<name>.sha256      its whole checksum

Only https, redirects included. A server that cannot go on from the middle, or whose file has changed, starts over.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from filelock import FileLock

from facewright import __version__
from facewright.errors import WeightsError
from facewright.files import sync_folder, write_atomic
from facewright.platforms import replace

LOG = logging.getLogger("facewright.downloads")
MOST_BYTES = 4 * 2**30  # of a file; the largest network of the zoo has 0.6 GB
CHUNK = 2**18  # bytes
LOGGED_EVERY = 10.0  # seconds
PATIENCE = 30.0  # seconds without an answer
_BROKEN = (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)  # while the body comes
Progress = Callable[[int, int], None]
"""Takes bytes done and bytes in all; in all is 0 where the server does not say."""


@dataclass(frozen=True)
class Remote:
    """A file at an address."""

    address: str  # https://...
    sha256: str  # all 64 hexadecimal digits, or the first 8 or more
    most_bytes: int = MOST_BYTES
    plain_hosts: frozenset[str] = frozenset()  # hosts that may speak http: for tests on this machine, never an option

    def __post_init__(self) -> None:
        _check_sha256(self.sha256)


class _StrictRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to addresses that would have been allowed in the first place."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        _check_address(newurl, self.remote.plain_hosts)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(remote: Remote, target: Path, progress: Progress | None = None) -> str:
    """Have a file at `target`: as it lies there, or downloaded.

    Args:
        target: its folder is made where it is missing, for the user alone.
    Returns:
        Its whole SHA-256.
    Raises:
        WeightsError: no network, a refusal, a body cut short (what came is kept), a wrong checksum (what came is
            removed), a full disk.
    """
    _check_address(remote.address, remote.plain_hosts)
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock"), mode=0o600):
            if not target.is_file():
                _download(remote, target, progress)
            return pinned(target, remote.sha256)
    except urllib.error.HTTPError as error:
        error.close()
        raise _unreachable(remote, target, f"the server answers {error.code} {error.reason}") from None
    except (*_BROKEN, urllib.error.URLError) as error:
        reason = str(getattr(error, "reason", None) or error or type(error).__name__)
        raise _unreachable(remote, target, reason) from None
    except OSError as error:
        raise WeightsError(f"{target}: could not be written ({error.strerror or error})") from error


def pinned(file: Path, sha256: str) -> str:
    """Return the checksum of a file, if it begins as published and is what it was; see `unchanged`.

    Args:
        sha256: published, whole or its beginning of at least 8 digits.
    Raises:
        WeightsError: it is another file than the published one, or than the one that was here before.
    """
    _check_sha256(sha256)
    return unchanged(file, sha256)


def unchanged(file: Path, sha256: str = "") -> str:
    """Return the checksum of a file, if it is what it was; written beside it the first time.

    Args:
        sha256: what the checksum begins with; "": of a file that was made here.
    Raises:
        WeightsError: it is another file.
    """
    found = sha256_of(file)
    note = file.with_name(f"{file.name}.sha256")
    expected = note.read_text("ascii", errors="replace").strip() if note.is_file() else sha256
    if not found.startswith(sha256) or (found != expected and note.is_file()):
        raise WeightsError(
            f"{file}: wrong checksum: expected SHA-256 {_shown(expected)}, found {found}; remove it and get it again"
        )
    if not note.is_file():
        write_atomic(note, f"{found}\n", mode=0o600)
    return found


def sha256_of(path: Path) -> str:
    """The checksum of a file, 64 hexadecimal digits.

    Raises:
        WeightsError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from None


def _check_sha256(sha256: str) -> None:
    """Raises WeightsError: no checksum, which any file would meet."""
    if not re.fullmatch(r"[0-9a-f]{8,64}", sha256):
        raise WeightsError(f"expected a SHA-256, whole or its first 8 digits or more, got {sha256!r}")


def _download(remote: Remote, target: Path, progress: Progress | None) -> None:
    part = target.with_name(f"{target.name}.part")
    with _answer(remote, part) as answer:
        _receive(answer, remote, part, progress)
    found = sha256_of(part)
    if not found.startswith(remote.sha256):
        _forget(part)
        raise WeightsError(
            f"{target.name}: wrong checksum: expected SHA-256 {_shown(remote.sha256)}, got {found} from"
            f" {remote.address}; it was removed, nothing was loaded"
        )
    replace(part, target)
    sync_folder(target.parent)
    _forget(part)


def _answer(remote: Remote, part: Path) -> Any:
    """The server's answer, to a request for the rest where there is a beginning, else for all of it."""
    opener = urllib.request.build_opener(_StrictRedirects(remote))
    headers = {"User-Agent": f"facewright/{__version__}", "Accept-Encoding": "identity"}
    have = part.stat().st_size if part.is_file() else 0
    validator = _validator(remote, part)
    if have and validator:
        rest = headers | {"Range": f"bytes={have}-", "If-Range": validator}
        try:
            return opener.open(urllib.request.Request(remote.address, headers=rest), timeout=PATIENCE)
        except urllib.error.HTTPError as error:
            if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            error.close()  # there is more here than there: not the same file
    _forget(part)
    return opener.open(urllib.request.Request(remote.address, headers=headers), timeout=PATIENCE)


def _receive(answer: Any, remote: Remote, part: Path, progress: Progress | None) -> None:
    """Write the body to `part`, behind what is there where the server goes on from it."""
    done = _resumed_at(answer, part)
    length = answer.headers.get("Content-Length", "")
    total = done + int(length) if length.isdecimal() else 0
    _check_size(total, remote)
    size = f"{total:,} bytes" if total else "of unknown size"
    LOG.info("downloading %s, %s, from %s into %s", part.stem, size, remote.address, part.parent)
    due = time.monotonic() + LOGGED_EVERY
    write_atomic(_note(part), json.dumps({"address": remote.address, "validator": _offered(answer)}), mode=0o600)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if done else os.O_TRUNC), 0o600)
    with open(descriptor, "ab" if done else "wb") as out:  # noqa: PTH123 - a descriptor, not a path
        try:
            while chunk := answer.read(CHUNK):
                out.write(chunk)
                done += len(chunk)
                _check_size(done, remote)
                if progress is not None:
                    progress(done, total)
                if time.monotonic() >= due:
                    LOG.info("%s: %s of %s", part.stem, f"{done:,}", size)
                    due += LOGGED_EVERY
        except http.client.IncompleteRead as error:
            out.write(error.partial)
            done += len(error.partial)
        out.flush()
        os.fsync(out.fileno())
    if total and done != total:
        raise WeightsError(
            f"{part.name.removesuffix('.part')}: the connection ended after {done:,} of {total:,} bytes;"
            " the same command goes on from there"
        )


def _resumed_at(answer: Any, part: Path) -> int:
    """Return the number of bytes that the answer omits because they are here: 0 for the whole file."""
    if answer.status != http.client.PARTIAL_CONTENT:
        return 0
    have = part.stat().st_size
    given = answer.headers.get("Content-Range", "")
    if not given.startswith(f"bytes {have}-"):
        raise http.client.HTTPException(f"it sent {given or 'an unnamed range'} when asked for bytes from {have}")
    return have


def _validator(remote: Remote, part: Path) -> str:
    """Return the version identifier of the partial file `part`; "" if unknown or of another address."""
    with suppress(OSError, ValueError, AttributeError):
        note = json.loads(_note(part).read_bytes())
        if note.get("address") == remote.address:
            return str(note.get("validator") or "")
    return ""


def _offered(answer: Any) -> str:
    """A strong ETag, else the time of the last change, else ""."""
    tag: str = answer.headers.get("ETag", "")
    changed: str = answer.headers.get("Last-Modified", "")
    return tag if tag and not tag.startswith("W/") else changed


def _check_address(address: str, plain_hosts: frozenset[str]) -> None:
    parts = urlsplit(address)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in plain_hosts):
        return
    raise WeightsError(f"{address}: only https addresses are downloaded from")


def _check_size(count: int, remote: Remote) -> None:
    if count > remote.most_bytes:
        raise WeightsError(f"{remote.address}: more than {remote.most_bytes:,} bytes, the limit; not downloaded")


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _forget(part: Path) -> None:
    for file in (part, _note(part)):
        file.unlink(missing_ok=True)


def _shown(sha256: str) -> str:
    return sha256 if len(sha256) == 64 else f"{sha256}…"


def _unreachable(remote: Remote, target: Path, reason: str) -> WeightsError:
    return WeightsError(
        f"{target.name} could not be downloaded from {remote.address} ({reason}); without a network, fetch that address"
        f" elsewhere and put the file at {target}"
    )
