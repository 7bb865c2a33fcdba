"""A server from its start to its end."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from facewright.errors import UsageError
from facewright.serve.app import create_app
from facewright.serve.connections import patient
from facewright.serve.service import Models
from facewright.serve.settings import Settings

GRACE_SECONDS = 10  # for requests that are being answered when the server is told to end
BACKLOG = 1024


def run(models: Models, settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        ready: told the address, once the server listens there.
    Raises:
        UsageError: the address cannot be listened on.
    """
    listening = listen(settings)
    server = uvicorn.Server(config_of(create_app(models, settings), settings))
    ready(address_of(listening, settings.host))
    server.run(sockets=[listening])


def config_of(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """How uvicorn serves an application of ours."""
    return uvicorn.Config(
        app,
        http=patient(settings.limits.head_seconds),
        ws="none",
        access_log=False,  # it would hold tokens and names
        log_level=logging.WARNING,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def listen(settings: Settings) -> socket.socket:
    """The socket of a server."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}; choose another --port"
        ) from None
    return listening


def address_of(listening: socket.socket, host: str) -> str:
    """Where a browser on this machine finds it."""
    port = listening.getsockname()[1]
    name = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"
