"""The application: its errors, its description, its page and its counts; `routes` has the rest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp

from facewright import __version__
from facewright.errors import FacewrightError
from facewright.serve import routes, schemas
from facewright.serve.guard import Guard
from facewright.serve.responses import ApiError, api_page, documented, error_of, error_response, page_file
from facewright.serve.service import Models, Service
from facewright.serve.settings import Limits, Settings

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64)
METHODS = frozenset({"GET", "HEAD", "POST", "DELETE"})


class Telemetry:
    """The counts of one server."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "facewright_requests", "Requests answered", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "facewright_request_seconds", "From the head of a request to the end of its answer", ["route"],
            buckets=SECONDS, registry=self._registry,
        )  # fmt: skip
        self._batches = Histogram(
            "facewright_batch_size", "Images that passed a network together", ["kind"],
            buckets=SIZES, registry=self._registry,
        )  # fmt: skip
        queue = Gauge("facewright_waiting_jobs", "Jobs that wait for the networks", registry=self._registry)
        queue.set_function(waiting)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. Methods and routes that do not exist are counted together."""
        self._requests.labels(method if method in METHODS else "other", route or "other", str(status)).inc()
        self._seconds.labels(route or "other").observe(seconds)

    def computed(self, kind: str, size: int) -> None:
        """Count a batch."""
        self._batches.labels(kind).observe(size)

    def response(self) -> Response:
        """Return all counts."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)


LOG = logging.getLogger("facewright.serve")
DESCRIPTION = """Detect, compare, identify and classify faces. Images are sent as files of a form; nothing is read
from a path or an address. Every error is `{"error": {"code", "message"}}`. Within /v1 fields are added, never
changed."""
REFUSED = (400, 401, 403, 503)  # what any request may get


def create_app(models: Models, settings: Settings) -> ASGIApp:
    """Build the application; the models are closed with it."""
    service: Service
    telemetry = Telemetry(lambda: service.engine.waiting)
    service = Service(models, settings.limits, telemetry.computed)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="Facewright",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load their scripts from another site
        redoc_url=None,
    )
    _add_error_handlers(app)
    _add_facts(app, service, settings, telemetry)
    routes.add(app, service, settings)
    _add_pages(app)
    _describe(app)
    return Guard(app, settings, telemetry.answered)


def _add_facts(app: FastAPI, service: Service, settings: Settings, telemetry: Telemetry) -> None:
    @app.get("/healthz", response_model=schemas.Health, responses=documented(REFUSED), tags=["server"])
    async def health() -> dict[str, str]:
        """Report that the server runs and its device answers."""
        if service.engine.fault is not None:
            raise ApiError(503, service.engine.fault, code="device_failed")
        return {"status": "ok"}

    @app.get("/metrics", responses=documented(REFUSED), tags=["server"], response_class=Response)
    async def metrics() -> Response:
        """Return counts of requests, times and batches in Prometheus' text format."""
        return telemetry.response()

    @app.get("/v1/about", response_model=schemas.About, responses=documented((*REFUSED, 500)), tags=["server"])
    async def facts(request: Request) -> dict[str, Any]:
        """Return what this server is and can do."""
        return await service.answer(request, lambda: _about(service, settings.limits))


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return page_file("index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return api_page(app.openapi())

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        return page_file(name)


def _describe(app: FastAPI) -> None:
    """Take FastAPI's own kind of refusal out of the description: this server answers 400."""
    for operations in app.openapi()["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        app.openapi()["components"]["schemas"].pop(name, None)


def _add_error_handlers(app: FastAPI) -> None:
    """Every error is one line and a status; only the log says more of an unexpected one."""

    @app.exception_handler(ApiError)
    async def refused(_: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(FacewrightError)
    async def ours(_: Request, error: FacewrightError) -> Response:
        return error_of(error).response()

    @app.exception_handler(HTTPException)
    async def known(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers = {"allow": ", ".join(_methods(app, request))}
        unread = error.status_code == 400 and isinstance(error.__cause__, Exception)  # FastAPI: a body that is no JSON
        message = "expected a body in JSON" if unread else str(error.detail)
        return error_response(error.status_code, message, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return error_response(400, f"{'.'.join(map(str, first['loc'][1:]))[:50]}: {first['msg']}")

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return error_response(500, "the server failed; the reason is in its log")


def _methods(app: FastAPI, request: Request) -> list[str]:
    """The methods of all routes of a path."""
    routes = [one for one in app.routes if isinstance(one, Route) and one.matches(request.scope)[0] is not Match.NONE]
    methods = {method for route in routes for method in route.methods or ()}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)


def _about(service: Service, limits: Limits) -> dict[str, Any]:
    models = service.models
    has_gallery, classifier, threshold = models.gallery is not None, models.classifier, models.recognizer.threshold()
    return {
        "version": __version__,
        "model": _about_model(models),
        "can": {
            **dict.fromkeys(("verify", "faces", "embed", "explain"), True),
            "predict": classifier is not None,
            "predict_faces": classifier is not None and classifier.cropper is not None,
            "explain_class": service.explains_classes,
            "gallery": has_gallery,
            "write": has_gallery,
        },
        "threshold": None if threshold is None else threshold.to_dict(),
        "gallery": routes.gallery_facts(service) if has_gallery else None,
        "limits": {"bytes": limits.bytes, "pixels": limits.pixels, "photos": limits.images},
    }


def _about_model(models: Models) -> dict[str, Any]:
    recognizer, classifier = models.recognizer, models.classifier
    spec = recognizer.spec if classifier is None else classifier.spec
    return {
        "name": models.name,
        "kind": "embedder" if classifier is None else "classifier",
        "fingerprint": recognizer.fingerprint,
        "detector": recognizer.detector_name,
        "runtime": models.runtime,
        "classes": [] if classifier is None else list(classifier.classes),
        "targets": [] if classifier is None or classifier.task is None else list(classifier.task.names),
        "input": {"height": spec.height, "width": spec.width},
        "licence": recognizer.licence,
    }
