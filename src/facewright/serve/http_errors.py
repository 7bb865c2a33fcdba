"""The errors of the HTTP API: a status and `{"error": {"code", "message"}}`."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable

from starlette.responses import Response

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
    """A request that is refused.

    Args:
        status: of CODES. message: one line for people. code: for programs; by default that of the status.
    """

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
