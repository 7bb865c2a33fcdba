"""What a server says where it does not answer: `{"error": {"code", "message"}}` and a status."""

from __future__ import annotations

import json
from collections.abc import Iterable

from starlette.responses import Response

from facewright.errors import (
    BadImage,
    BundleError,
    DataError,
    FacewrightError,
    GalleryDamaged,
    GalleryError,
    OtherModel,
    Undefined,
    UsageError,
    WeightsError,
)
from facewright.serve.schemas import Refused

CODES = {
    400: "bad_request", 401: "no_token", 403: "forbidden", 404: "not_found", 405: "wrong_method", 408: "too_slow",
    409: "undefined", 413: "too_large", 415: "wrong_type", 500: "failed", 501: "not_served", 503: "busy",
}  # fmt: skip

# What each of the package's errors means for whoever asked; the first that fits.
STATUSES: tuple[tuple[type[FacewrightError], int], ...] = (
    (BadImage, 400),
    (OtherModel, 409),
    (GalleryDamaged, 500),
    (GalleryError, 503),
    (Undefined, 409),
    (UsageError, 400),
    (DataError, 400),
    (BundleError, 500),
    (WeightsError, 500),
)


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: of CODES. message: one line for people.
    """

    def __init__(self, status: int, message: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}

    def response(self) -> Response:
        """As it is sent."""
        return refusal(self.status, self.message, self.headers)


def refusal(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """The answer that says why there is none."""
    body = {"error": {"code": CODES.get(status, "refused"), "message": " ".join(message.split())}}
    return Response(json.dumps(body).encode(), status, headers or {}, media_type="application/json")


def status_of(error: FacewrightError) -> int:
    """The status that an error of the package is answered with.

    >>> status_of(BadImage("a.jpg", "is empty")), status_of(Undefined("no threshold"))
    (400, 409)
    """
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 500)


def documented(statuses: Iterable[int]) -> dict[int | str, dict[str, object]]:
    """These refusals as OpenAPI has them."""
    return {status: {"model": Refused, "description": CODES[status].replace("_", " ")} for status in sorted(statuses)}
