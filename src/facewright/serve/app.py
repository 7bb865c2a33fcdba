"""The application: each route reads what came, calls one function, replies; `gallery_routes` has the gallery's."""

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
from facewright.serve import about, asked, gallery_routes, schemas
from facewright.serve.asked import form_of
from facewright.serve.guard import Guard
from facewright.serve.pages import page_file
from facewright.serve.refusals import Refusal, documented, refusal, status_of
from facewright.serve.service import Models, Service
from facewright.serve.settings import Settings
from facewright.serve.telemetry import Telemetry
from facewright.serve.uploads import Form, read_form

LOG = logging.getLogger("facewright.serve")
PHOTO_REFUSALS = (400, 401, 403, 408, 409, 413, 415, 501, 503)
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
    app.state.service, app.state.settings = service, settings
    _say_errors(app)
    _add_facts(app, service, settings, telemetry)
    _add_photos(app, service, settings)
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


def _add_photos(app: FastAPI, service: Service, settings: Settings) -> None:
    refusals = documented(PHOTO_REFUSALS)

    async def form(request: Request) -> Form:
        return await read_form(request, settings.limits)

    @app.post(
        "/v1/faces", response_model=schemas.Faces, responses=refusals, tags=["photos"],
        openapi_extra=form_of(asked.Nothing, "photo"),
    )  # fmt: skip
    async def faces(request: Request) -> dict[str, Any]:
        """Where the faces of a photo are."""
        given = await form(request)
        given.read(asked.Nothing, ("photo",))
        async with service.admitted():
            return await service.faces(given.one("photo"))

    @app.post(
        "/v1/embed", response_model=schemas.Embedded, responses=refusals, tags=["photos"],
        openapi_extra=form_of(asked.Nothing, "photo"),
    )  # fmt: skip
    async def embed(request: Request) -> dict[str, Any]:
        """The vector of each face of a photo."""
        given = await form(request)
        given.read(asked.Nothing, ("photo",))
        async with service.admitted():
            return await service.embed(given.one("photo"))

    @app.post(
        "/v1/predict", response_model=schemas.Predicted, responses=refusals, tags=["photos"],
        openapi_extra=form_of(asked.PredictFields, "photo"),
    )  # fmt: skip
    async def predict(request: Request) -> dict[str, Any]:
        """The likeliest classes of a photo, as the model was trained to see it: nothing is cut out."""
        given = await form(request)
        fields = given.read(asked.PredictFields, ("photo",))
        async with service.admitted():
            return await service.predict(given.one("photo"), fields.top_k)

    @app.post(
        "/v1/verify", response_model=schemas.Verified, responses=refusals, tags=["photos"],
        openapi_extra=form_of(asked.VerifyFields, "a", "b"),
    )  # fmt: skip
    async def verify(request: Request) -> dict[str, Any]:
        """Whether two photos show the same person."""
        given = await form(request)
        fields = given.read(asked.VerifyFields, ("a", "b"))
        a, b = given.one("a"), given.one("b")
        async with service.admitted():
            return await service.verify(a, b, fields.policy, fields.far)

    @app.post(
        "/v1/explain",
        response_model=schemas.ExplainedPair | schemas.ExplainedClass, responses=refusals, tags=["photos"],
        openapi_extra=form_of(asked.ExplainFields, "photo"),
    )  # fmt: skip
    async def explain(request: Request) -> dict[str, Any]:
        """Files `a` and `b`: which regions made two faces alike. One file `photo`: where a class was seen."""
        given = await form(request)
        if "photo" in given.photos:
            fields = given.read(asked.ExplainFields, ("photo",))
            async with service.admitted():
                return await service.explain_class(given.one("photo"), fields.name)
        pair = given.read(asked.ExplainPairFields, ("a", "b"))
        a, b = given.one("a"), given.one("b")
        async with service.admitted():
            return await service.explain_pair(a, b, pair.policy)


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
