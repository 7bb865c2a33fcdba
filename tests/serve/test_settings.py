"""Where a server listens and by what names it is known."""

from __future__ import annotations

import pytest

from facewright.errors import UsageError
from facewright.serve.settings import Settings, is_loopback, new_token

TOKEN = "t" * 20


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_beyond_this_machine_none_starts_without_a_token(host: str) -> None:
    with pytest.raises(UsageError, match="token"):
        Settings(host=host)
    assert Settings(host=host, token=TOKEN).token == TOKEN


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1"])
def test_on_this_machine_none_is_needed(host: str) -> None:
    assert is_loopback(host) and Settings(host=host).token is None


@pytest.mark.parametrize(
    ("token", "port", "word"),
    [("", 1, "token"), ("short", 1, "16"), ("ä" * 20, 1, "ASCII"), (TOKEN, -1, "port"), (TOKEN, 65_536, "port")],
)
def test_refused(token: str, port: int, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        Settings(port=port, token=token)


def test_tokens_differ() -> None:
    assert len({new_token() for _ in range(100)}) == 100 and len(new_token()) >= 32


# the server's address, the `Host` of a request -> whether it is answered
@pytest.mark.parametrize(
    ("host", "asked", "known"),
    [
        ("127.0.0.1", "127.0.0.1:8000", True),
        ("127.0.0.1", "LocalHost:8000", True),
        ("127.0.0.1", "[::1]:8000", True),
        ("127.0.0.1", "evil.example:8000", False),  # rebound to this address
        ("127.0.0.1", "127.0.0.1.evil.example", False),
        ("127.0.0.1", "192.168.1.5:8000", False),
        ("127.0.0.1", "localhost.", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "a b", False),
        ("127.0.0.1", "user@localhost", False),
        ("127.0.0.1", "localhost:80x", False),
        ("127.0.0.1", "faces.example:443", True),  # named by --allow-host
        ("0.0.0.0", "192.168.1.5:8000", True),  # an address cannot be rebound
        ("0.0.0.0", "[fe80::1]", True),
        ("0.0.0.0", "evil.example", False),
        ("0.0.0.0", "[evil.example", False),
    ],
)
def test_a_server_knows_its_names(host: str, asked: str, known: bool) -> None:
    assert Settings(host=host, token=TOKEN, names=frozenset({"faces.example"})).knows(asked) is known
