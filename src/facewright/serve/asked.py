"""What comes with a request beside its photos, in a form or as JSON. An unknown field is refused."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

PolicyName = Literal["centre", "largest", "error"]


class Given(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Nothing(Given):
    """No field beside the photos."""


class PredictFields(Given):
    top_k: int = Field(default=5, ge=1, le=1000)


class VerifyFields(Given):
    far: float | None = Field(default=None, gt=0, lt=1)
    policy: PolicyName = "centre"


class ExplainFields(Given):
    name: str | None = Field(default=None, alias="class")


class ExplainPairFields(Given):
    policy: PolicyName = "centre"


class IdentifyFields(Given):
    top_k: int = Field(default=5, ge=1, le=100)
    threshold: float | None = Field(default=None, ge=-1, le=1)


def _from_json(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        raise ValueError("expected a JSON object of texts") from None


class EnrollFields(Given):
    person: str = Field(min_length=1, max_length=1000)
    policy: PolicyName = "centre"
    metadata: Annotated[dict[str, str], BeforeValidator(_from_json)] = Field(default_factory=dict)


class CalibrateBody(Given):
    fpir: float = Field(gt=0, lt=1, examples=[0.01])


def form_of(fields: type[Given], *files: str, several: bool = False) -> dict[str, Any]:
    """The body of a request as OpenAPI has it: photos and fields of one form.

    Args:
        files: the names of the photos. several: whether each may come more than once.
    """
    one = {"type": "string", "format": "binary", "description": "A photo"}
    photos = {name: {"type": "array", "items": one} if several else one for name in files}
    schema = fields.model_json_schema(by_alias=True)
    whole = {
        "type": "object",
        "properties": photos | schema.get("properties", {}),
        "required": [*photos, *schema.get("required", [])],
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": whole}}}}
