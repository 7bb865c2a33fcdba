"""The application: what it says of itself and of errors; `photo_routes` and `gallery_routes` have the rest."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from facewright import __version__
from facewright.errors import FacewrightError
from facewright.serve import about, gallery_routes, photo_routes, schemas
from facewright.serve.guard import Guard
from facewright.serve.pages import page_file
from facewright.serve.refusals import Refusal, refusal, status_of
from facewright.serve.service import Models, Service
from facewright.serve.settings import Settings
from facewright.serve.telemetry import Telemetry

LOG = logging.getLogger("facewright.serve")
DESCRIPTION = """Faces found, named, compared. Photos are sent as files of a form; nothing is read from a path or an
address. Every refusal is `{"error": {"code", "message"}}`."""


def create_app(models: Models, settings: Settings) -> ASGIApp:
    """The application, closed to whom `settings` do not let in.

    Args:
        models: what it answers with; they are closed with the application.
    """
    service: Service
    telemetry = Telemetry(lambda: service.waiting)
    service = Service(models, settings.limits, telemetry.computed)

    @asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="Facewright",
        version=__version__,
        description=DESCRIPTION,
        lifespan=living,
        docs_url=None,  # they load their scripts from another site
        redoc_url=None,
    )
    _say_errors(app)
    _add_facts(app, service, settings, telemetry)
    photo_routes.add(app, service, settings)
    if models.gallery is not None:
        gallery_routes.add(app, service, settings)
    _add_pages(app)
    return Guard(app, settings, telemetry.answered)


def _add_facts(app: FastAPI, service: Service, settings: Settings, telemetry: Telemetry) -> None:
    @app.get("/healthz", response_model=schemas.Health, tags=["server"])
    async def health() -> dict[str, str]:
        """Whether the server lives."""
        return {"status": "ok"}

    @app.get("/metrics", tags=["server"], response_class=Response)
    async def metrics() -> Response:
        """Requests, times, batches: Prometheus' text format."""
        return telemetry.response()

    @app.get("/v1/about", response_model=schemas.About, tags=["server"])
    async def facts() -> dict[str, Any]:
        """What this server is and can do."""
        return await about.about(service, settings.limits)


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return page_file("index.html")

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        return page_file(name)


def _say_errors(app: FastAPI) -> None:
    """Every error is one line and a status; what nobody expected is told in the log alone."""

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> Response:
        return error.response()

    @app.exception_handler(FacewrightError)
    async def ours(_: Request, error: FacewrightError) -> Response:
        return refusal(status_of(error), str(error))

    @app.exception_handler(HTTPException)
    async def known(_: Request, error: HTTPException) -> Response:
        return refusal(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return refusal(400, f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}")

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return refusal(500, "the server failed; its log says how")
