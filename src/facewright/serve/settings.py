"""Where a server listens, who may ask it, and how much at once.

A server on a loopback address answers whoever is on this machine. On any other address it answers nobody without a
token, and does not start without one.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
from dataclasses import dataclass, field

from facewright.errors import UsageError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
SHORTEST_TOKEN = 16  # characters
TOKEN_BYTES = 32


@dataclass(frozen=True)
class Limits:
    """How much a server takes."""

    bytes: int = 16 * 2**20  # of a request
    memory: int = 256 * 2**20  # bytes of all requests that are being read or answered
    pixels: int = 25_000_000  # of a photo
    photos: int = 20  # of a request
    fields: int = 20  # of a request, beside its photos
    field_bytes: int = 64 * 2**10
    waiting: int = 64  # requests that wait for the networks; further ones are told to come again
    batch: int = 32  # pictures that pass a network together
    head_seconds: float = 10.0  # until the head of a request is there
    body_seconds: float = 20.0  # until its body is
    answer_seconds: float = 60.0  # until it is answered


@dataclass(frozen=True)
class Settings:
    """Of one server.

    Args:
        host: a name or address to listen on. port: 0 takes a free one.
        token: that every request must carry; None: no request must.
        names: further names that the server may be called by, beside its own, IP addresses and this machine's name.
    Raises:
        UsageError: no token on an address that others can reach, or one that can be guessed.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    names: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise UsageError(
                f"{self.host} can be reached from other machines, so a token is needed: give one with --token, or "
                "leave it out to have one made"
            )
        if self.token is not None and (len(self.token) < SHORTEST_TOKEN or not self.token.isascii()):
            raise UsageError(f"expected a token of at least {SHORTEST_TOKEN} ASCII characters, got {len(self.token)}")
        if not 0 <= self.port <= 65_535:
            raise UsageError(f"expected a port from 0 to 65535, got {self.port}")

    def knows(self, authority: str) -> bool:
        """Whether a `Host` is this server. A page that rebinds its name to this address comes with its own name.

        An IP address cannot be rebound, so that any of them passes where the server listens beyond this machine.

        Args:
            authority: a name or address, with or without a port.
        """
        name = host_of(authority)
        if name is None:
            return False
        if is_loopback(self.host):
            return name in LOOPBACK_NAMES | self.names | {self.host.lower()}
        return name in LOOPBACK_NAMES | self.names | {self.host.lower(), _this_machine()} or _is_address(name)


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone.

    >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "192.168.0.7", "example.org")]
    [True, True, True, False, False, False]
    """
    if host.lower() == "localhost":
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def new_token() -> str:
    """A token that cannot be guessed."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def host_of(authority: str) -> str | None:
    """The name in `name:port`, lower case; None where it is not well formed.

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


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _this_machine() -> str:
    return socket.gethostname().lower()
