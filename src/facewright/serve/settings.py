"""Settings of a server: its address, who may send requests, and how much it takes at once.

A server on a loopback address answers every request from this machine. On any other address it does not start without
a token, and refuses requests without it.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from facewright.errors import UsageError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
SHORTEST_TOKEN = 16  # characters
TOKEN_BYTES = 32
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")  # of a path; "" for none


@dataclass(frozen=True)
class Limits:
    """The most that a server takes."""

    bytes: int = 16 * 2**20  # of a request
    memory: int = 256 * 2**20  # bytes of the bodies of all requests in progress
    decoded: int = 512 * 2**20  # bytes of all images that are being decoded or wait decoded
    pixels: int = 50_000_000  # of an image
    kept_pixels: int = 16_000_000  # of a decoded image; a larger one is reduced before it waits for the networks
    images: int = 20  # of a request
    fields: int = 20  # of a request, beside its images
    field_bytes: int = 64 * 2**10
    waiting: int = 64  # requests in progress; further ones get 503
    batch: int = 32  # images that pass a network together
    connections: int = 512  # open ones; less where the system allows fewer file descriptors
    head_seconds: float = 10.0  # until the head of a request is complete
    body_seconds: float = 20.0  # until its body is complete
    answer_seconds: float = 60.0  # until it is answered
    write_seconds: float = 25.0  # until the client has read the answer
    stop_seconds: float = 9.0  # from SIGTERM to the end of the process


@dataclass(frozen=True)
class Settings:
    """The settings of a server.

    Args:
        host: a name or address to listen on. port: 0 takes a free one.
        token: that every request must carry; None: none is needed.
        names: further names of the server, beside its own, IP addresses and this machine's name.
        root_path: the path under which a reverse proxy publishes the server, such as "/faces"; "" for none.
        proxies: addresses of reverse proxies whose X-Forwarded-Proto, -Host and -Prefix are used.
        origins: other web sites whose pages may call the API (CORS), such as "https://app.example".
    Raises:
        UsageError: a setting is malformed, or an address that others can reach has no token, or a short one.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    names: frozenset[str] = frozenset()
    root_path: str = ""
    proxies: tuple[IPNetwork, ...] = ()
    origins: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise UsageError(f"{self.host} can be reached from other machines; expected a token (--token), got none")
        if self.token is not None and (len(self.token) < SHORTEST_TOKEN or not self.token.isascii()):
            raise UsageError(f"expected a token of at least {SHORTEST_TOKEN} ASCII characters, got {len(self.token)}")
        if not 0 <= self.port <= 65_535:
            raise UsageError(f"expected a port from 0 to 65535, got {self.port}")
        if not is_prefix(self.root_path):
            raise UsageError(f"expected a root path such as /faces, got {self.root_path!r}")
        for origin in self.origins:
            if not _is_origin(origin):
                raise UsageError(f"expected an origin such as https://app.example, got {origin!r}")

    def knows(self, authority: str) -> bool:
        """Return whether a `Host` names this server: a page that rebinds its name to this address sends its own name.

        An IP address cannot be rebound, so any of them passes where the server listens beyond this machine.
        """
        name = host_of(authority)
        if name is None:
            return False
        known = LOOPBACK_NAMES | self.names | {self.host.lower()}
        if is_loopback(self.host):
            return name in known
        return name in known | {socket.gethostname().lower()} or _is_address(name)

    def trusts(self, address: str) -> bool:
        """Return whether a connection from this address is from a reverse proxy of ours."""
        if not _is_address(address):
            return False
        client = ipaddress.ip_address(address)
        if isinstance(client, ipaddress.IPv6Address) and client.ipv4_mapped is not None:
            client = client.ipv4_mapped
        return any(client in network for network in self.proxies)


def networks_of(texts: Iterable[str]) -> tuple[IPNetwork, ...]:
    """Return the networks of proxies: addresses such as 10.0.0.7 or ranges such as 10.0.0.0/24."""
    try:
        return tuple(ipaddress.ip_network(text.strip()) for text in texts)
    except ValueError as error:
        raise UsageError(f"expected addresses of proxies such as 10.0.0.7 or 10.0.0.0/24: {error}") from None


def is_prefix(path: str) -> bool:
    """Return whether a path can be the root path of a server.

    >>> [is_prefix(path) for path in ("", "/faces", "/a/b", "faces", "/faces/", "//evil", "/a/../b", "/a?b")]
    [True, True, True, False, False, False, False, False]
    """
    return len(path) <= 200 and PREFIX.fullmatch(path) is not None and ".." not in path.split("/")


def is_loopback(host: str) -> bool:
    """Return whether an address is reached from this machine only.

    >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "192.168.0.7", "example.org")]
    [True, True, True, False, False, False]
    """
    if host.lower() == "localhost":
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def new_token() -> str:
    """Return a token that cannot be guessed."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def host_of(authority: str) -> str | None:
    """Return the name in `name:port` in lower case; None where it is malformed.

    >>> host_of("LOCALHOST:8000"), host_of("[::1]:8000"), host_of("a b"), host_of("x:y")
    ('localhost', '::1', None, None)
    """
    if authority.startswith("["):
        name, closed, rest = authority[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else ("" if not rest else "-")
    else:
        name, _, port = authority.partition(":")
        closed = "]"
    wrong = not name or not closed or not (not port or port.isdecimal()) or any(c in " @/\\?#" for c in name)
    return None if wrong else name.lower()


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and text == f"{parts.scheme}://{parts.netloc}" and bool(parts.hostname)
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
