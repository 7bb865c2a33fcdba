"""A server from its start to its end."""

from __future__ import annotations

import logging
import socket

import uvicorn
from starlette.types import ASGIApp

from facewright.errors import UsageError
from facewright.serve.app import create_app
from facewright.serve.connections import patient
from facewright.serve.service import Models
from facewright.serve.settings import Settings

GRACE_SECONDS = 10  # for requests that are being answered when the server is told to end
BACKLOG = 1024


def run(models: Models, settings: Settings, listening: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        listening: of `listen`; what came on it meanwhile is answered first.
    """
    uvicorn.Server(config_of(create_app(models, settings), settings)).run(sockets=[listening])


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
    """The socket of a server.

    Raises:
        UsageError: the address cannot be listened on.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}; choose another --port"
        ) from None


def address_of(listening: socket.socket, host: str) -> str:
    """Where a browser on this machine finds it."""
    port = listening.getsockname()[1]
    name = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"
