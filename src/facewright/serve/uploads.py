"""Photos and fields out of a form, in memory: nothing of a photo is ever written to disk on its way in."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from facewright.serve.refusals import Refusal
from facewright.serve.settings import Limits

LONGEST_NAME = 200
TYPE = "multipart/form-data"
Fields = TypeVar("Fields", bound=BaseModel)


@dataclass(frozen=True)
class Upload:
    """A photo as it came."""

    name: str  # as the sender calls it, without folders
    content: bytes


@dataclass(frozen=True)
class Form:
    """What came with a request."""

    photos: dict[str, list[Upload]]
    fields: dict[str, str]

    def one(self, name: str) -> Upload:
        """The one photo of a name.

        Raises:
            Refusal: none came, several, or a text in its place.
        """
        found = self.several(name)
        if len(found) > 1:
            raise Refusal(400, f"expected one file {name!r}, got {len(found)}")
        return found[0]

    def several(self, name: str) -> list[Upload]:
        """The photos of a name, at least one."""
        if name not in self.photos:
            raise Refusal(400, f"expected a file {name!r}, got {', '.join(self.photos) or 'none'}")
        return self.photos[name]

    def read(self, model: type[Fields], photos: tuple[str, ...]) -> Fields:
        """The fields, checked; nothing may be there that is not asked for.

        Args:
            photos: the names of the files that may come.
        """
        texts = [name for name in photos if name in self.fields]
        if texts:
            raise Refusal(
                400, f"expected {texts[0]!r} as a file, got text: photos are sent, not named by path or address"
            )
        surplus = [name for name in self.photos if name not in photos]
        if surplus:
            raise Refusal(400, f"unexpected file {surplus[0][:50]!r}; expected {', '.join(photos)}")
        return checked(model, self.fields)


def checked(model: type[Fields], values: Any) -> Fields:
    """Values as a model has them.

    Raises:
        Refusal: they are not; names the first that is wrong.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Refusal(400, f"{where[:50]}: {first['msg']}" if where else first["msg"]) from None


async def read_form(request: Request, limits: Limits) -> Form:
    """The form of a request.

    Raises:
        Refusal: another kind of content, a broken form, or more parts than allowed.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != TYPE:
        raise Refusal(415, f"expected {TYPE}, got {kind or 'no content type'}")
    parser = MultiPartParser(
        request.headers,
        _pieces(request),
        max_files=limits.photos,
        max_fields=limits.fields,
        max_part_size=limits.field_bytes,
    )
    parser.spool_max_size = limits.bytes + 1  # never to disk
    try:
        found = await parser.parse()
    except MultiPartException as error:
        raise Refusal(400, f"the form cannot be read: {error.message}") from None
    except (UnicodeError, ValueError) as error:
        raise Refusal(400, f"the form cannot be read: {error}") from None
    return await _sorted(found.multi_items())


async def _sorted(items: list[tuple[str, UploadFile | str]]) -> Form:
    photos: dict[str, list[Upload]] = {}
    fields: dict[str, str] = {}
    for name, value in items:
        if isinstance(value, str):
            if name in fields:
                raise Refusal(400, f"expected the field {name[:50]!r} once")
            fields[name] = value
        else:
            photos.setdefault(name, []).append(Upload(name_of(value.filename), await value.read()))
            await value.close()
    return Form(photos, fields)


async def _pieces(request: Request) -> AsyncGenerator[bytes, None]:
    async for piece in request.stream():
        yield piece


def name_of(sent: str | None) -> str:
    r"""What a photo is called in answers: no folders, no control characters, not too long.

    >>> name_of("..\\..\\etc/ann\n1.jpg"), name_of(None), name_of("..")
    ('ann1.jpg', 'photo', 'photo')
    """
    last = PurePath((sent or "").replace("\\", "/").replace("\0", "")).name
    shown = "".join(c for c in last if c.isprintable()).strip()[:LONGEST_NAME]
    return shown if shown not in ("", ".", "..") else "photo"
