"""Files in buckets and on web servers, through fsspec (extra `cloud`).

    s3://faces/people/            a folder of images: each is read where it is, when it is asked for
    https://host/people/          likewise, by the pages that list the folder
    s3://faces/people.zip         what is packed is copied once into the cache folder, until it changes there
    memory://faces/               of this process, for tests

Credentials and options are those of fsspec (its environment variables and files), never a part of the address: that is
kept in runs. Limits are those of local files.
"""

from __future__ import annotations

import io
import logging
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import numpy as np
from filelock import FileLock

from facewright import platforms
from facewright.data.archives import danger_of_name
from facewright.data.image_records import ContentSource, PackedText, Record, digest, within_limit
from facewright.data.packed import LIMITS, no_room
from facewright.data.records import Broken
from facewright.data.trees import DEPTH, Tree, add_name
from facewright.errors import BadArchive, BadImage, DataError, FacewrightError, UnknownName, UsageError, require_extra
from facewright.files import cache_folder
from facewright.images import is_hidden

_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs", "memory": "fsspec", "http": "aiohttp", "https": "aiohttp"}
_CONNECT, _WAIT = 10, 60  # seconds
_CHANGES = ("etag", "lastmodified", "last-modified", "last_modified", "mtime", "md5hash", "generation", "created")


def is_remote(address: object) -> bool:
    """Tell whether an address has a scheme, as s3://.

    >>> is_remote("s3://faces/people"), is_remote("synthetic:faces"), is_remote("C:/faces")
    (True, False, False)
    """
    return isinstance(address, str) and re.match(r"[a-z][a-z0-9+.-]*://", address) is not None


class RemoteSource(ContentSource):
    """Images below an address, each read when it is asked for. Safe to share between threads and to pickle.

    Args:
        address: of the folder. found: path of each image → its size in bytes (-1: not known), and a sign of change.
    """

    def __init__(self, address: str, found: Mapping[str, tuple[int, str]]) -> None:
        names = sorted(found)
        self.address, self.names = address.rstrip("/"), PackedText(names)
        self.sizes = np.array([found[name][0] for name in names], np.int64)
        self.changes = np.array([int(digest(found[name][1].encode())[:15], 16) for name in names], np.int64)

    def stamp(self, record: Record) -> str:
        """As `PixelSource.stamp`: what the bucket says of the file; a web server is asked."""
        row = self.names.place(record.path)
        if self.sizes[row] >= 0:
            return f"{self.sizes[row]}:{self.changes[row]:x}"
        with _as_bad_image(record.path), _reached(self.address):
            size, change = _facts(filesystem(self.address).info(self._url(record.path)))
        return f"{size}:{change}" if change else self.content_key(record)

    def content(self, name: str) -> bytes:
        """Return the bytes of the file called `name`. Raises BadImage: there is none, or it may not be read.

        Raises DataError: the server is lost: no image is left out for it.
        """
        size = int(self.sizes[self.names.place(name)])
        limit = within_limit(name, size)
        with _as_bad_image(name), _reached(self.address):
            if size >= 0:
                content: bytes = filesystem(self.address).cat_file(self._url(name))
            else:
                within = _Within(limit)
                filesystem(self.address).get_file(self._url(name), within)
                content = within.getvalue()
        if size >= 0 and len(content) != size:
            raise BadImage(name, "changed while it was read")
        return content

    def _url(self, name: str) -> str:
        return f"{self.address}/{quote(name) if self.address.startswith('http') else name}"


class _Within(io.BytesIO):
    """Bytes in memory, up to a limit: a server may send more than it says."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def write(self, block: Any) -> int:
        if self.tell() + len(block) > self.limit:
            raise ValueError(f"has more than {self.limit:,} bytes, which is the limit")
        return super().write(block)


def list_remote(address: str) -> Tree:
    """List the tree below the address of a folder, five names deep.

    Raises DataError: it cannot be reached, or nothing is there. BadArchive: more files than the limit.
    """
    address = address.rstrip("/")
    web = address.startswith("http")
    with _reached(address):
        opened = filesystem(address)
        root = address if web else opened._strip_protocol(address).rstrip("/")
        if web:
            opened.ls(f"{root}/")  # find leaves out what it cannot reach
        listed = opened.find(f"{root}/" if web else root, maxdepth=DEPTH if web else None, detail=True)
    if len(listed) > LIMITS.entries:
        raise BadArchive(f"{address}: has {len(listed):,} files; the limit is {LIMITS.entries:,}")
    tree = Tree(address, _name(address), RemoteSource(address, {}))
    found: dict[str, tuple[int, str]] = {}
    for place, facts in sorted(listed.items()):
        path = unquote(place.removeprefix(f"{root}/")) if web else place.removeprefix(f"{root}/")
        if path.endswith("/") or is_hidden(path) or path.count("/") >= DEPTH or (web and re.search("[?#]", place)):
            continue
        if (reason := danger_of_name(path)) is not None:
            tree.broken.append(Broken(path, reason))
            continue
        found[path] = _facts(facts)
        add_name(tree, path)
    if not found:
        raise DataError(f"{address}: there is no such file or folder, or it lists no file")
    above = {path.rpartition("/")[0] for path in found}
    folders = {"/".join(path.split("/")[:n]) for path in above if path for n in range(1, path.count("/") + 2)}
    tree.folders.extend(sorted(folders))
    for names in (tree.files, tree.texts, tree.packed):
        names.sort()
    tree.source = RemoteSource(address, found)
    return tree


def fetch(address: str, names: Sequence[str] = ("",)) -> Path:
    """Copy files below an address into the cache folder, where they are not there yet as they are now.

    Return their folder; of the name "", the file at the address itself, its copy. Raises DataError: a file cannot be
    reached. BadArchive: over the limit. FacewrightError: no room.
    """
    with _reached(address):
        opened = filesystem(address)
        places = [f"{address.rstrip('/')}/{name}" if name else address for name in names]
        facts = [_facts(opened.info(place)) for place in places]
    if sum(size for size, _ in facts) > LIMITS.bytes:
        raise BadArchive(f"{address}: has more than {LIMITS.bytes:,} bytes, which is the limit")
    folder = cache_folder() / "fetched" / digest(repr((places, facts)).encode())
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(folder / ".lock", mode=0o600):
            for name, place in zip(names, places, strict=True):
                copy = folder / (name or _name(address, suffix=True))
                if not copy.is_file():
                    copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    with _reached(address):
                        opened.get_file(place, str(copy.with_name(f".{copy.name}.part")))
                    platforms.replace(copy.with_name(f".{copy.name}.part"), copy)
    except OSError as error:
        raise no_room(address, folder.parent, error) from error
    return copy if tuple(names) == ("",) else folder


def exists(address: str) -> bool:
    """Tell whether there is a file at an address. Raises DataError where it cannot be reached."""
    with _reached(address):
        return bool(filesystem(address).exists(address))


@contextmanager
def writable(out: str | Path) -> Iterator[Path]:
    """The local path to write `out` to; what is written to a bucket is sent there when the block ends well.

    Raises UsageError: a web server. DataError: it cannot be sent; says where it lies.
    """
    if not is_remote(out):
        yield Path(out)
        return
    address = str(out)
    if address.startswith("http"):
        raise UsageError(f"{address}: cannot write to a web server; name a file or a bucket")
    with _reached(address):
        opened = filesystem(address)
    folder = cache_folder() / "outgoing" / digest(address.encode())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    copy = folder / _name(address, suffix=True)
    yield copy
    with _reached(f"{address}: the result lies in {copy}"):
        opened.put_file(str(copy), address)
    shutil.rmtree(folder)


def filesystem(address: str) -> Any:
    """Return fsspec's file system for an address.

    Raises UsageError: a password in the address, or a package is missing. UnknownName: an unknown scheme.
    """
    scheme = address.partition("://")[0]
    if scheme not in _PACKAGES:
        raise UnknownName("scheme of an address", scheme, (*_PACKAGES, "file"))
    require_extra("cloud", f"reading {scheme}://")
    if "@" in urlsplit(address).netloc:
        raise UsageError(f"{scheme}://…: put no password into an address: runs keep it; see docs/data.md")
    import fsspec  # type: ignore[import-untyped]

    own = logging.getLogger(_PACKAGES[scheme])
    if not own.handlers:  # else the stack of what is one line here is printed, as by gcsfs
        own.addHandler(logging.NullHandler())
    options: dict[str, Any] = {}
    if scheme.startswith("http"):
        import aiohttp

        timeout = aiohttp.ClientTimeout(sock_connect=_CONNECT, sock_read=_WAIT)
        options = {"simple_links": False, "client_kwargs": {"timeout": timeout}}
    if scheme == "s3":
        options = {
            "config_kwargs": {"connect_timeout": _CONNECT, "read_timeout": _WAIT, "retries": {"max_attempts": 3}}
        }
    return fsspec.filesystem(scheme, **options)


def _facts(info: Mapping[str, Any]) -> tuple[int, str]:
    """Size (-1: not known), and what changes when the file does."""
    size, found = info.get("size"), {str(key).lower(): value for key, value in info.items()}
    return -1 if size is None else int(size), " ".join(str(found[key]) for key in _CHANGES if found.get(key))


def _name(address: str, *, suffix: bool = False) -> str:
    name = unquote(urlsplit(address).path if address.startswith("http") else address).rstrip("/").rpartition("/")[2]
    return (name if suffix else name.partition(".")[0]) or "remote"


@contextmanager
def _reached(address: str) -> Iterator[None]:
    try:
        yield
    except FacewrightError:
        raise
    except ImportError:
        package = _PACKAGES[address.partition("://")[0]]
        raise UsageError(f"{address}: needs {package}, not installed: pip install {package}") from None
    except FileNotFoundError as error:
        raise DataError(f"{address}: there is no such file or folder") from error
    except Exception as error:  # each storage library raises kinds of its own
        lines = (str(error.strerror or error) if isinstance(error, OSError) else str(error)).strip().splitlines()
        why = f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
        raise DataError(f"{address}: cannot be reached ({why})") from error


@contextmanager
def _as_bad_image(name: str) -> Iterator[None]:
    """Tell what is wrong with one file from a server that is lost, after which every file would be."""
    try:
        yield
    except DataError as error:
        cause = error.__cause__
        own = isinstance(cause, (FileNotFoundError, PermissionError, IsADirectoryError, ValueError))
        if own or 400 <= getattr(cause, "status", 0) < 500:  # of aiohttp
            raise BadImage(name, str(error)) from error
        raise
