"""A server on a free port of this machine, in a thread of the test."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
import uvicorn
from starlette.types import ASGIApp

from facewright.serve.server import config_of, open_socket
from facewright.serve.settings import Settings

Serving = Callable[[ASGIApp, Settings], AbstractContextManager[int]]


@pytest.fixture(scope="session")
def serving() -> Serving:
    """Serve an application as `facewright serve` does; gives the port."""
    return _served


@contextlib.contextmanager
def _served(app: ASGIApp, settings: Settings) -> Iterator[int]:
    listening = open_socket(settings)
    server = uvicorn.Server(config_of(app, settings))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    assert server.started, "the server ended while it started"
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
