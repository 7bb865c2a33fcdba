"""The routes of photos: find, embed, name, compare, explain. Each reads what came, calls one function, replies."""

from __future__ import annotations

from enum import Enum
from typing import Any

from fastapi import FastAPI, Request

from facewright.serve import asked, schemas
from facewright.serve.asked import form_of
from facewright.serve.refusals import documented
from facewright.serve.service import Service
from facewright.serve.settings import Settings
from facewright.serve.uploads import read_form

REFUSALS = documented((400, 401, 403, 408, 409, 413, 415, 501, 503))
TAGS: list[str | Enum] = ["photos"]


def add(app: FastAPI, service: Service, settings: Settings) -> None:
    """Add them."""
    _add_one_photo(app, service, settings)
    _add_two_photos(app, service, settings)


def _add_one_photo(app: FastAPI, service: Service, settings: Settings) -> None:
    limits, one, nothing = settings.limits, ("photo",), form_of(asked.Nothing, "photo")

    @app.post("/v1/faces", response_model=schemas.Faces, responses=REFUSALS, tags=TAGS, openapi_extra=nothing)
    async def faces(request: Request) -> dict[str, Any]:
        """Where the faces of a photo are."""
        given = await read_form(request, limits)
        given.read(asked.Nothing, one)
        async with service.admitted():
            return await service.faces(given.one("photo"))

    @app.post("/v1/embed", response_model=schemas.Embedded, responses=REFUSALS, tags=TAGS, openapi_extra=nothing)
    async def embed(request: Request) -> dict[str, Any]:
        """The vector of each face of a photo."""
        given = await read_form(request, limits)
        given.read(asked.Nothing, one)
        async with service.admitted():
            return await service.embed(given.one("photo"))

    form = form_of(asked.PredictFields, "photo")

    @app.post("/v1/predict", response_model=schemas.Predicted, responses=REFUSALS, tags=TAGS, openapi_extra=form)
    async def predict(request: Request) -> dict[str, Any]:
        """The likeliest classes of a photo, as the model was trained to see it: nothing is cut out."""
        given = await read_form(request, limits)
        fields = given.read(asked.PredictFields, one)
        async with service.admitted():
            return await service.predict(given.one("photo"), fields.top_k)


def _add_two_photos(app: FastAPI, service: Service, settings: Settings) -> None:
    limits, two, form = settings.limits, ("a", "b"), form_of(asked.VerifyFields, "a", "b")

    @app.post("/v1/verify", response_model=schemas.Verified, responses=REFUSALS, tags=TAGS, openapi_extra=form)
    async def verify(request: Request) -> dict[str, Any]:
        """Whether two photos show the same person."""
        given = await read_form(request, limits)
        fields = given.read(asked.VerifyFields, two)
        a, b = given.one("a"), given.one("b")
        async with service.admitted():
            return await service.verify(a, b, fields.policy, fields.far)

    either, why = schemas.ExplainedPair | schemas.ExplainedClass, form_of(asked.ExplainPairFields, "a", "b")

    @app.post("/v1/explain", response_model=either, responses=REFUSALS, tags=TAGS, openapi_extra=why)
    async def explain(request: Request) -> dict[str, Any]:
        """Files `a` and `b`: which regions made two faces alike. One file `photo`: where a class was seen."""
        given = await read_form(request, limits)
        if "photo" in given.photos:
            named = given.read(asked.ExplainFields, ("photo",))
            async with service.admitted():
                return await service.explain_class(given.one("photo"), named.name)
        fields = given.read(asked.ExplainPairFields, two)
        a, b = given.one("a"), given.one("b")
        async with service.admitted():
            return await service.explain_pair(a, b, fields.policy)
