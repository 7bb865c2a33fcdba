"""A server from its start to its end: its models, its socket, its connections, its signals.

uvicorn closes idle connections, and `guard` limits the time of a body. Here a head that does not come, and an answer
that is not read, end their connection; where all places are taken, a new one takes the place of one that keeps waiting.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import h11
import numpy as np
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from facewright.errors import UsageError
from facewright.gallery.gallery import Gallery
from facewright.platforms import descriptors
from facewright.recognition import Recognizer
from facewright.runs import load_classifier
from facewright.serve.app import create_app
from facewright.serve.service import Models, Runtime
from facewright.serve.settings import Limits, Settings

LOG = logging.getLogger("facewright.serve")
GIVE_UP_SECONDS = 3.0  # after the requests in progress were cancelled
PATIENCE = 1.0  # s that a client may keep a connection waiting before a new one may take its place
SPARE = 16  # file descriptors kept for the gallery's files and the like
BACKLOG = 1024
SILENCE = 60.0  # s between two log lines about the same trouble


class LimitedProtocol(H11Protocol):
    """uvicorn's protocol with deadlines for heads and for reading answers, and a limit of connections."""

    limits = Limits()
    last_line = -SILENCE  # when the last line about connections was logged

    def __init__(self, *args: Any, **more: Any) -> None:  # as uvicorn calls it
        super().__init__(*args, **more)
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._since = 0.0  # when the client began to keep the server waiting

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        self._expect_head()
        if len(self.connections) > self.limits.connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._write_timer = None
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.conn.their_state
        super().handle_events()
        if self.conn.their_state is not before:
            self._since = self.loop.time()
        if self.conn.their_state is h11.IDLE:
            if self._head_timer is None and self.conn.trailing_data[0]:  # the next request has begun
                self._expect_head()
        elif self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()
        self._expect_reading()

    def pause_writing(self) -> None:
        """The client does not read as fast as the answer is written."""
        self._since = self.loop.time()
        super().pause_writing()
        self._expect_reading()

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(self.limits.head_seconds, self._cut)

    def _expect_reading(self) -> None:
        if self._write_timer is None and self._unread():
            self._write_timer = self.loop.call_later(self.limits.write_seconds, self._cut_if_unread)

    def _cut_if_unread(self) -> None:
        self._write_timer = None
        if self._unread():
            self._cut()

    def _unread(self) -> bool:
        return self.transport is not None and self.transport.get_write_buffer_size() > 0

    def _cut(self) -> None:
        self._head_timer = None
        self.transport.abort()

    def _make_room(self) -> None:
        """Cut the connection that has kept the server waiting longest; where there is none, this one."""
        now = self.loop.time()
        waiting = [one for one in self.connections if isinstance(one, LimitedProtocol) and one._waits(now)]
        victim = min(waiting, key=lambda one: one._since, default=self)
        if now - type(self).last_line >= SILENCE:
            type(self).last_line = now
            LOG.warning("all %d connections are taken; those that wait longest are closed", self.limits.connections)
        victim._cut()

    def _waits(self, now: float) -> bool:
        """Return whether the server waits for the client: idle, or longer than allowed."""
        if self.transport.is_closing() and not self._unread():
            return False
        idle = self.conn.their_state is h11.IDLE and self.cycle is not None
        late = now - self._since > PATIENCE
        return (idle and not self._unread()) or (
            late and (self._unread() or self.conn.their_state in (h11.IDLE, h11.SEND_BODY))
        )


def capacity(wanted: int) -> tuple[int, int]:
    """Return how many connections may be open, and how many accepted at a time before the first is handled.

    Raises:
        UsageError: the system allows too few file descriptors.
    """
    limit = descriptors()
    if limit is None:
        return wanted, BACKLOG
    most, used = limit
    free = most - used - SPARE
    if free < 8:
        raise UsageError(f"the system allows {most} file descriptors and {used} are in use; raise it: ulimit -n 1024")
    backlog = min(BACKLOG, free // 4)
    return min(wanted, free - backlog), backlog


class OncePerMinute(logging.Filter):
    """Lets a message pass once in a minute, however often it comes; that no descriptor is free is told in a line."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is logged."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            record.msg, record.args, record.exc_info = "no file descriptor is free; new connections wait", (), None
        now, text = time.monotonic(), record.getMessage()[:100]
        if now - self._last.get(text, -SILENCE) < SILENCE:
            return False
        if len(self._last) > 100:
            self._last.clear()
        self._last[text] = now
        return True


def load(
    model: str | None,
    gallery: str | None = None,
    *,
    detector: str | None = None,
    keep_crops: bool = True,
    device: str | None = "cpu",
) -> Models:
    """Load what a server answers with.

    Args:
        model: a run directory, a model file, architecture@weights or "built-in"; None: the gallery's, else built-in.
        gallery: a file or a database; made where there is none, in a folder that exists.
        detector: as `Recognizer`, and of a classifier that was trained on face crops.
        device: what computes, as for `devices.choose`.
    Raises:
        UsageError: no folder for the gallery. OtherModel: it is of another model. As `Embedder.load`, `Gallery.open`.
    """
    if gallery is not None and "://" not in gallery and not Path(gallery).parent.is_dir():
        raise UsageError(f"{gallery}: expected a gallery in a folder that exists, {Path(gallery).parent} is none")
    opened = None if gallery is None else Gallery.for_enrolling(gallery, model, detector=detector, device=device)
    recognizer = Recognizer.load(model, detector=detector, device=device) if opened is None else opened.recognizer
    _warm(recognizer)
    own = recognizer.embedder
    classifier = None
    if own is not None and model is not None and own.bundle.classes:
        named = None if own.bundle.spec.faces is None or detector == "none" else detector
        classifier = load_classifier(Path(model), device, named)
        _ = classifier.cropper  # what cannot be loaded is reported now
    runtime: Runtime = "pytorch" if own is None or own.bundle.exported is None else "onnx"
    return Models(public_name(recognizer.name), recognizer, classifier, opened, keep_crops, runtime)


def public_name(name: str) -> str:
    """Return what a model is called over the network: without the folders of this machine.

    >>> public_name("mobilefacenet@/home/me/weights.safetensors"), public_name("runs/a"), public_name("built-in")
    ('mobilefacenet@weights.safetensors', 'a', 'built-in')
    """
    architecture, at, weights = name.rpartition("@")
    return f"{architecture}{at}{Path(weights).name}"


def _warm(recognizer: Recognizer) -> None:
    """Load every network, so that what cannot be loaded is reported now and the first request is as fast as others."""
    spec = recognizer.spec
    grey = np.full((spec.height, spec.width, 3), 128, np.uint8)
    recognizer.faces(grey)
    recognizer.embed_crops([grey])


def run(models: Models, settings: Settings, listening: socket.socket) -> None:
    """Serve on a socket of `open_socket` until SIGINT or SIGTERM; then for at most `Limits.stop_seconds`."""
    _Server(config_of(create_app(models, settings), settings)).run(sockets=[listening])


class _Server(uvicorn.Server):
    """uvicorn's server, which ends in time whatever is being computed: a gallery's transaction is kept whole or not."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        seconds = self.config.timeout_graceful_shutdown or 0
        watch = threading.Timer(seconds + GIVE_UP_SECONDS, _end_now, [sig])
        watch.daemon = True
        watch.start()
        super().handle_exit(sig, frame)


def _end_now(sig: int) -> None:
    # Nothing is logged: a full pipe behind standard error would hold this thread up, too.
    os._exit(0 if sig == signal.SIGTERM else 128 + sig)


def config_of(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn serves an application of ours."""
    connections, backlog = capacity(settings.limits.connections)
    limits = {"limits": replace(settings.limits, connections=connections)}
    for name in ("asyncio", LOG.name):
        if not logging.getLogger(name).filters:
            logging.getLogger(name).addFilter(OncePerMinute())
    return uvicorn.Config(
        app,
        http=type("LimitedProtocol", (LimitedProtocol,), limits),
        ws="none",
        access_log=False,  # it would hold tokens and names
        log_level=logging.WARNING,
        server_header=False,
        proxy_headers=False,  # `guard` reads them
        backlog=backlog,
        timeout_graceful_shutdown=max(1, int(settings.limits.stop_seconds) - 4),
    )


def open_socket(settings: Settings) -> socket.socket:
    """Open the socket that a server listens on. Raises UsageError: the address cannot be listened on."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {settings.host} port {settings.port}: "
            f"{os.strerror(error.errno) if error.errno else error}; choose another --port"
        ) from None


def address_of(listening: socket.socket, settings: Settings) -> str:
    """Return where a browser on this machine finds the page."""
    port = listening.getsockname()[1]
    name = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host
    return f"http://{f'[{name}]' if ':' in name else name}:{port}{settings.root_path}/"
