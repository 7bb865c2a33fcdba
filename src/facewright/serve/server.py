"""A server from its start to its end: its models, its socket, its signals."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from dataclasses import replace
from pathlib import Path
from types import FrameType

import numpy as np
import uvicorn
from starlette.types import ASGIApp

from facewright.errors import UsageError
from facewright.gallery.gallery import Gallery
from facewright.recognition import Recognizer
from facewright.runs import load_classifier
from facewright.serve.app import create_app
from facewright.serve.connections import OncePerMinute, capacity, protocol_of
from facewright.serve.service import Models, Runtime
from facewright.serve.settings import Settings

LOG = logging.getLogger("facewright.serve")
GIVE_UP_SECONDS = 3.0  # after the requests in progress were cancelled


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
        gallery: a file or a database; made where there is none. detector: as `Recognizer`, and of a classifier that
            was trained on face crops. device: what computes, as for `devices.choose`.
    Raises:
        OtherModel: the gallery is of another model. As `Embedder.load` and `Gallery.open`.
    """
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
    """Serve until SIGINT or SIGTERM; from then on it takes no longer than `Limits.stop_seconds`.

    Args:
        listening: of `listen`; what came on it meanwhile is answered first.
    """
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
    for name in ("asyncio", LOG.name):
        if not logging.getLogger(name).filters:
            logging.getLogger(name).addFilter(OncePerMinute())
    return uvicorn.Config(
        app,
        http=protocol_of(replace(settings.limits, connections=connections)),
        ws="none",
        access_log=False,  # it would hold tokens and names
        log_level=logging.WARNING,
        server_header=False,
        proxy_headers=False,  # `forwarded` reads them
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
