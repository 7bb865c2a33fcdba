"""Answers beside those of the routes: errors, `{"error": {"code", "message"}}`; the page and the API's description."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from functools import cache
from html import escape
from importlib import resources
from pathlib import PurePath
from typing import Any

from starlette.responses import HTMLResponse, Response

from facewright.errors import (
    BadImage,
    BundleError,
    DataError,
    DeviceFault,
    FacewrightError,
    GalleryDamaged,
    GalleryError,
    OtherModel,
    Undefined,
    UsageError,
    WeightsError,
)
from facewright.serve.schemas import ErrorAnswer

LOG = logging.getLogger("facewright.serve")
CODES = {
    400: "bad_request", 401: "no_token", 403: "forbidden", 404: "not_found", 405: "wrong_method", 408: "too_slow",
    409: "undefined", 413: "too_large", 415: "wrong_type", 499: "client_closed", 500: "failed", 503: "busy",
    507: "storage_full",
}  # fmt: skip

# The status of each of the package's errors; the first that fits.
STATUSES: tuple[tuple[type[FacewrightError], int, str | None], ...] = (
    (BadImage, 400, "bad_image"),
    (OtherModel, 409, "other_model"),
    (GalleryDamaged, 500, "gallery_damaged"),
    (GalleryError, 503, "gallery_unavailable"),
    (Undefined, 409, None),
    (UsageError, 400, None),
    (DataError, 400, None),
    (DeviceFault, 503, "device_failed"),
    (BundleError, 500, None),
    (WeightsError, 500, None),
)
FULL = re.compile(r"disk is full|no space left|disk quota|file too large", re.IGNORECASE)
# What a message must not tell a client: folders of this machine, and the address of a database.
DATABASE = re.compile(r"\bpostgres\w*://[^\s'\"]*[^\s'\":;,.]", re.IGNORECASE)
PATH = re.compile(r"(?<![\w./~-])(?:~|\.{1,2}|[A-Za-z]:)?[/\\](?:[^\n:;,'\"()<>|?*]*[/\\])?(?=[\w.])")


class ApiError(Exception):
    """A request that is refused: a status of CODES, one line for people, and a code for programs."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = headers or {}

    def response(self) -> Response:
        """Return the error as it is sent."""
        return error_response(self.status, self.message, code=self.code, headers=self.headers)


def busy(message: str) -> ApiError:
    """Return the error of a request that may succeed a moment later."""
    return ApiError(503, message, headers={"retry-after": "1"})


def error_response(
    status: int, message: str, *, code: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    """Return the answer that carries an error."""
    body = {"error": {"code": code or CODES.get(status, "refused"), "message": " ".join(message.split())}}
    return Response(json.dumps(body).encode(), status, headers or {}, media_type="application/json")


def error_of(error: FacewrightError) -> ApiError:
    """Return an error of the package as the API reports it.

    >>> error_of(BadImage("a.jpg", "is empty")).status, error_of(Undefined("no threshold")).status
    (400, 409)
    >>> error_of(GalleryError("/home/me/people.gallery: database or disk is full")).status
    507
    """
    status, code = next(((status, code) for kind, status, code in STATUSES if isinstance(error, kind)), (500, None))
    if isinstance(error, GalleryError) and FULL.search(f"{error} {error.__cause__}"):
        return ApiError(507, "the disk of the gallery is full; nothing was changed")
    if code == "gallery_unavailable":
        LOG.error("the gallery cannot be used: %s", error)
        return ApiError(status, "the gallery cannot be used now; the reason is in the server's log", code=code)
    return ApiError(status, without_places(str(error)), code=code)


def without_places(message: str) -> str:
    """Return a message without folders of this machine and without the addresses of databases.

    >>> without_places("/home/me/my people/a.gallery: not enrolled; ~/b/c.pt, postgresql://me:pw@db/people: gone")
    'a.gallery: not enrolled; c.pt, the database: gone'
    >>> without_places("../my people/a.gallery: not enrolled: '../../x'")
    "a.gallery: not enrolled: 'x'"
    """
    return PATH.sub("", DATABASE.sub("the database", message))


def documented(statuses: Iterable[int]) -> dict[int | str, dict[str, object]]:
    """Return the description of these errors for OpenAPI."""
    return {
        status: {"model": ErrorAnswer, "description": CODES[status].replace("_", " ")} for status in sorted(statuses)
    }


KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@cache
def page_files() -> dict[str, bytes]:
    """Return every file of the page by its name."""
    folder = resources.files("facewright.serve") / "page"
    return {item.name: item.read_bytes() for item in folder.iterdir() if PurePath(item.name).suffix in KINDS}


def page_file(name: str) -> Response:
    """Return one of them; only these names exist, whatever a path says."""
    content = page_files().get(name)
    if content is None:
        return error_response(404, "there is no such page")
    return Response(content, media_type=KINDS[PurePath(name).suffix])


def api_page(schema: dict[str, Any]) -> Response:
    """Return the description of the API as a page without scripts."""
    operations = [
        (method.upper(), path, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    sections = "".join(_operation(*one, schema["components"]["schemas"]) for one in operations)
    title = f"{schema['info']['title']} {schema['info']['version']}: HTTP API"
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<title>{escape(title)}</title><link rel="stylesheet" href="static/style.css">'
        f'<main class="wrap docs"><h1>{escape(title)}</h1>'
        f"<p>{_words(schema['info']['description'])}</p>"
        f'<p>For programs: <a href="openapi.json">openapi.json</a>. To try it: <a href=".">the page</a>.</p>'
        f"{sections}</main></html>"
    )


def _words(text: str) -> str:
    return re.sub("`([^`]*)`", r"<code>\1</code>", escape(text))


def _operation(method: str, path: str, operation: dict[str, Any], named: dict[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {})
    kind = next(iter(body), "")
    schema = body[kind].get("schema", {}) if kind else {}
    schema = named.get(schema.get("$ref", "").rpartition("/")[2], schema)
    required = schema.get("required", [])
    fields = [(name, one, name in required) for name, one in schema.get("properties", {}).items()]
    fields += [
        (one["name"], one.get("schema", {}), one.get("required", False)) for one in operation.get("parameters", [])
    ]
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_type(one))}</td>"
        f"<td>{'required' if needed else ''}</td><td>{_words(one.get('description', ''))}</td></tr>"
        for name, one, needed in fields
    )
    statuses = ", ".join(operation.get("responses", {}))
    return (
        f"<section><h2><code>{method} {escape(path)}</code></h2><p>{_words(operation.get('description', ''))}</p>"
        f"<p class='sub'>{escape(kind)} → {escape(statuses)}</p>"
        + (f"<table>{rows}</table>" if rows else "")
        + "</section>"
    )


def _type(schema: dict[str, Any]) -> str:
    """A type in a few words: "integer, 1 to 100", "image file", "center | largest | error"."""
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("format") == "binary":
        return "image file"
    if schema.get("type") == "array":
        return f"one or more: {_type(schema['items'])}"
    low, high = schema.get("minimum"), schema.get("maximum")
    bounds = f", {low:,} to {high:,}" if low is not None and high is not None else ""
    return f"{schema.get('type', '')}{bounds}"
