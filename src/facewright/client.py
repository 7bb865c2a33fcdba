"""A client of `facewright serve` for Python programs. Needs the extra `client`; no torch, no networks.

>>> with Client("http://127.0.0.1:8000", token="…") as faces:                           # doctest: +SKIP
...     faces.verify("a.jpg", "b.jpg").same
True
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from facewright.errors import FacewrightError, UsageError
from facewright.serve import schemas

Image = str | Path | bytes | NDArray[np.uint8] | PillowImage.Image  # bytes: of a file; an array: (H, W, 3) RGB
AnswerT = TypeVar("AnswerT", bound=schemas.Answer)


class ServerError(FacewrightError):
    """A request that the server refused or that did not reach it."""

    def __init__(self, status: int | None, code: str, message: str) -> None:
        super().__init__(message if status is None else f"the server answered {status}: {message}")
        self.status = status  # None: there was no answer
        self.code = code  # for programs: "bad_image", "busy", "no_token", "unreachable", …


class Client:
    """A connection to a server; its methods are the API's routes and return their answers, checked.

    Args:
        address: as `facewright serve` prints it, with the path that a reverse proxy may add.
        patience: seconds for which a busy server is asked again. timeout: seconds for one answer.
        transport: of httpx.
    """

    def __init__(
        self,
        address: str,
        token: str | None = None,
        *,
        patience: float = 30,
        timeout: float = 70,
        transport: Any = None,
    ) -> None:
        try:
            import httpx
        except ImportError:
            raise UsageError("the client needs httpx: pip install 'facewright[client]'") from None
        self._no_answer = httpx.TransportError
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=address, headers=headers, timeout=timeout, transport=transport)
        self._patience = patience

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def about(self) -> schemas.About:
        """Return what the server is and can do."""
        return self._ask(schemas.About, "GET", "about")

    def faces(self, image: Image) -> schemas.Faces:
        """Detect the faces of an image."""
        return self._ask(schemas.Faces, "POST", "faces", [("photo", image)])

    def embed(self, image: Image) -> schemas.Embedded:
        """Return the unit vector of each face of an image."""
        return self._ask(schemas.Embedded, "POST", "embed", [("photo", image)])

    def predict(self, image: Image, *, top_k: int = 5) -> schemas.Predicted:
        """Return the most probable classes of an image."""
        return self._ask(schemas.Predicted, "POST", "predict", [("photo", image)], {"top_k": top_k})

    def predict_faces(self, image: Image, *, top_k: int = 5) -> schemas.PredictedFaces:
        """Return the most probable classes of each face of an image, of a model that was trained on face crops."""
        return self._ask(schemas.PredictedFaces, "POST", "predict/faces", [("photo", image)], {"top_k": top_k})

    def verify(self, a: Image, b: Image, *, far: float | None = None, select_face: str = "center") -> schemas.Verified:
        """Decide whether two images show the same person."""
        fields = {"far": far, "select_face": select_face}
        return self._ask(schemas.Verified, "POST", "verify", [("a", a), ("b", b)], fields)

    def identify(self, image: Image, *, top_k: int = 5, threshold: float | None = None) -> schemas.Identified:
        """Look up every face of an image in the gallery."""
        fields = {"top_k": top_k, "threshold": threshold}
        return self._ask(schemas.Identified, "POST", "gallery/identify", [("photo", image)], fields)

    def enroll(self, person: str, *images: Image, metadata: Mapping[str, str] | None = None) -> schemas.Enrolled:
        """Enroll images of one person."""
        fields = {"person": person, "metadata": json.dumps(dict(metadata or {}))}
        return self._ask(schemas.Enrolled, "POST", "gallery/enroll", [("photo", image) for image in images], fields)

    def calibrate(self, fpir: float) -> schemas.Calibrated:
        """Choose the score from which on a face is known."""
        return self._ask(schemas.Calibrated, "POST", "gallery/calibrate", fields={"fpir": fpir})

    def people(self, like: str = "") -> Iterator[schemas.Person]:
        """Yield the enrolled people by name, those whose name contains `like`."""
        after: str | None = ""
        while after is not None:
            page = self._ask(schemas.People, "GET", "gallery/people", query={"after": after, "like": like})
            yield from page.people
            after = page.next

    def delete(self, person: str) -> schemas.Deleted:
        """Delete a person from the gallery."""
        return self._ask(schemas.Deleted, "DELETE", "gallery/people", query={"person": person})

    def _ask(
        self,
        answer: type[AnswerT],
        method: str,
        route: str,
        images: Sequence[tuple[str, Image]] = (),
        fields: Mapping[str, object] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> AnswerT:
        files = [(name, _file(image)) for name, image in images]
        form = {name: str(value) for name, value in (fields or {}).items() if value is not None}
        body: dict[str, Any] = {"files": files, "data": form} if files else {"json": fields} if fields else {}
        end = time.monotonic() + self._patience
        while True:
            try:
                found = self._http.request(method, f"v1/{route}", params=query, **body)
            except self._no_answer as error:
                raise ServerError(None, "unreachable", f"no answer from {self._http.base_url}: {error}") from None
            told = found.headers.get("retry-after", "")
            wait = float(told) if told.isdecimal() else 1.0  # a proxy may name a date
            if found.status_code != 503 or time.monotonic() + wait > end:
                break
            time.sleep(wait)
        try:
            if found.is_success:
                return answer.model_validate_json(found.content)
            refused = schemas.ErrorAnswer.model_validate_json(found.content).error
        except ValueError:
            message = f"{found.reason_phrase}, but nothing of this API" if found.is_success else found.reason_phrase
            raise ServerError(found.status_code, "unknown", message) from None
        raise ServerError(found.status_code, refused.code, refused.message)


def _file(image: Image) -> tuple[str, bytes]:
    """Name and content of the file that is sent."""
    if isinstance(image, bytes):
        return "image", image
    if isinstance(image, str | Path):
        return Path(image).name, Path(image).read_bytes()
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise UsageError(f"expected an H x W x 3 uint8 array, got {image.dtype} {image.shape}")
        image = PillowImage.fromarray(image)
    out = io.BytesIO()
    image.save(out, "PNG")
    return "image.png", out.getvalue()
