"""Images and fields of a request's form, in memory; no part of an image is ever written to disk.

An unknown field is refused. The fields' classes are also their description in OpenAPI.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Path, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from facewright.serve.responses import ApiError
from facewright.serve.settings import Limits

LONGEST_NAME = 200  # of an image
LONGEST_PERSON = 1_000  # characters
MOST_PEOPLE = 1_000  # in one answer
LEAST_RATE = 1e-9  # that can be asked for
TYPE = "multipart/form-data"
FieldsT = TypeVar("FieldsT", bound=BaseModel)

SelectedFace = Annotated[
    Literal["center", "largest", "error"],
    Field(description="Which of several faces is used; error: refuse an image with several"),
]
AskedRate = Annotated[float, Field(ge=LEAST_RATE, le=0.5)]
PersonName = Annotated[str, Query(min_length=1, max_length=LONGEST_PERSON)]
NamePart = Annotated[str, Query(max_length=LONGEST_PERSON)]
PageSize = Annotated[int, Query(ge=1, le=MOST_PEOPLE)]
EntryNumber = Annotated[int, Path(ge=1, le=2**63 - 1)]


class Fields(BaseModel):
    """The fields of a request."""

    model_config = ConfigDict(extra="forbid")


class PredictFields(Fields):
    top_k: int = Field(default=5, ge=1, le=1000)


class VerifyFields(Fields):
    far: AskedRate | None = None
    select_face: SelectedFace = "center"


class ExplainFields(Fields):
    name: str | None = Field(default=None, alias="class", max_length=LONGEST_PERSON)


class ExplainPairFields(Fields):
    select_face: SelectedFace = "center"


class IdentifyFields(Fields):
    top_k: int = Field(default=5, ge=1, le=100)
    threshold: float | None = Field(default=None, ge=-1, le=1)


def _from_json(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        raise ValueError("expected a JSON object of texts") from None


class EnrollFields(Fields):
    person: str = Field(
        min_length=1,
        max_length=LONGEST_PERSON,
        description="A name: no control or invisible characters, no space at its ends",
        json_schema_extra={"format": "person-name"},
    )
    select_face: SelectedFace = "center"
    metadata: Annotated[dict[str, str], BeforeValidator(_from_json)] = Field(default_factory=dict)


class CalibrateBody(Fields):
    fpir: float = Field(
        ge=LEAST_RATE, le=0.5, examples=[0.01], description="Maximum false-positive identification rate"
    )


@dataclass(frozen=True)
class Upload:
    """An image as it came."""

    name: str  # as the client calls it, without folders
    content: bytes


@dataclass(frozen=True)
class Form:
    """The parts of a form."""

    images: dict[str, list[Upload]]
    fields: dict[str, str]

    def one(self, name: str) -> Upload:
        """Return the one image of a name. Raises ApiError: none came, several, or a text in its place."""
        uploads = self.several(name)
        if len(uploads) > 1:
            raise ApiError(400, f"expected one file {name!r}, got {len(uploads)}")
        return uploads[0]

    def several(self, name: str) -> list[Upload]:
        """Return the images of a name, at least one."""
        if name not in self.images:
            raise ApiError(400, f"expected a file {name!r}, got {', '.join(self.images)[:100] or 'none'}")
        return self.images[name]

    def read(self, model: type[FieldsT], *images: str) -> FieldsT:
        """Return the fields, checked; any other field or file than those named by `images` is refused."""
        texts = [name for name in images if name in self.fields]
        if texts:
            raise ApiError(400, f"expected {texts[0]!r} as a file, got text: send the image, not its path or address")
        surplus = [name for name in self.images if name not in images]
        if surplus:
            raise ApiError(400, f"unexpected file {surplus[0][:50]!r}; expected {', '.join(images)}")
        try:
            return model.model_validate(_renamed(self.fields))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise ApiError(400, f"{field[:50]}: {first['msg']}" if field else first["msg"]) from None


def _renamed(fields: dict[str, str]) -> dict[str, str]:
    """Accept the name that `select_face` had before; for one version."""
    if "policy" not in fields or "select_face" in fields:
        return fields
    value = fields["policy"]
    return {name: text for name, text in fields.items() if name != "policy"} | {
        "select_face": "center" if value == "centre" else value
    }


async def read_form(request: Request, limits: Limits) -> Form:
    """Read the form of a request. Raises ApiError: another content type, a broken form, or too many parts."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != TYPE:
        raise ApiError(415, f"expected {TYPE}, got {kind[:100] or 'no content type'}")
    parser = MultiPartParser(
        request.headers,
        request.stream(),
        max_files=limits.images,
        max_fields=limits.fields,
        max_part_size=limits.field_bytes,
    )
    parser.spool_max_size = limits.bytes + 1  # never to disk
    try:
        parts = await parser.parse()
    except MultiPartException as error:
        raise ApiError(400, f"the form cannot be read: {error.message}") from None
    except (UnicodeError, ValueError) as error:
        raise ApiError(400, f"the form cannot be read: {error}") from None
    images: dict[str, list[Upload]] = {}
    fields: dict[str, str] = {}
    for name, value in parts.multi_items():
        if isinstance(value, UploadFile):
            images.setdefault(name, []).append(Upload(name_of(value.filename), await value.read()))
            await value.close()
        elif name in fields:
            raise ApiError(400, f"expected the field {name[:50]!r} once")
        else:
            fields[name] = value
    return Form(images, fields)


def name_of(sent: str | None) -> str:
    r"""Return what an image is called in answers: no folders, no control characters, not too long.

    >>> name_of("..\\..\\etc/ann\n1.jpg"), name_of(None), name_of("..")
    ('ann1.jpg', 'image', 'image')
    """
    last = PurePath((sent or "").replace("\\", "/").replace("\0", "")).name
    shown = "".join(c for c in last if c.isprintable()).strip()[:LONGEST_NAME]
    return shown if shown not in ("", ".", "..") else "image"


def form_of(
    fields: type[Fields], *images: str, several: bool = False, choices: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """Return the body of a request for OpenAPI: images and fields of one form.

    Args:
        several: whether each image may come more than once. choices: the values of a field that only this server knows.
    """
    one = {"type": "string", "format": "binary", "description": "An image file"}
    many = {"type": "array", "items": one, "minItems": 1, "maxItems": Limits.images}
    schema = fields.model_json_schema(by_alias=True)
    values = {name: _without_null(value) for name, value in schema.get("properties", {}).items()}
    properties = dict.fromkeys(images, many if several else one) | values
    if "metadata" in properties:
        about = "A JSON object whose keys and values are texts"
        properties["metadata"] = {
            "type": "string",
            "format": "json",
            "description": about,
            "examples": ['{"team": "a"}'],
        }
    for name, allowed in (choices or {}).items():
        properties[name] = {**properties[name], "enum": list(allowed)}
    whole = {
        "type": "object",
        "properties": properties,
        "required": [*images, *schema.get("required", [])],
        "additionalProperties": False,
    }
    return {"requestBody": {"required": True, "content": {TYPE: {"schema": whole}}}}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A field of a form is a text or absent, never null."""
    kept = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    if len(kept) != 1:
        return schema
    return {**{name: value for name, value in schema.items() if name not in ("anyOf", "default")}, **kept[0]}
