"""The routes that take images: detect, embed, classify, compare, explain."""

from __future__ import annotations

from enum import Enum
from functools import partial
from typing import Any

from fastapi import FastAPI, Request

from facewright.serve import forms, schemas
from facewright.serve.forms import Form, form_of, read_form
from facewright.serve.http_errors import documented
from facewright.serve.service import Service
from facewright.serve.settings import Settings

ERRORS = documented((400, 401, 403, 408, 409, 413, 415, 503))
TAGS: list[str | Enum] = ["images"]


def add(app: FastAPI, service: Service, settings: Settings) -> None:
    """Add them; a route that the model cannot answer says so, and is not part of the description."""
    _add_one_image(app, service, settings)
    _add_classes(app, service, settings)
    _add_two_images(app, service, settings)


def _add_one_image(app: FastAPI, service: Service, settings: Settings) -> None:
    form = form_of(forms.Fields, "photo")

    @app.post("/v1/faces", response_model=schemas.Faces, responses=ERRORS, tags=TAGS, openapi_extra=form)
    async def faces(request: Request) -> dict[str, Any]:
        """Detect the faces of an image."""
        given = await read_form(request, settings.limits)
        given.read(forms.Fields, "photo")
        image = given.one("photo")
        return await service.answer(request, partial(service.faces, image), [image])

    @app.post("/v1/embed", response_model=schemas.Embedded, responses=ERRORS, tags=TAGS, openapi_extra=form)
    async def embed(request: Request) -> dict[str, Any]:
        """Return the vector of each face of an image."""
        given = await read_form(request, settings.limits)
        given.read(forms.Fields, "photo")
        image = given.one("photo")
        return await service.answer(request, partial(service.embed, image), [image])


def _add_classes(app: FastAPI, service: Service, settings: Settings) -> None:
    form, served = form_of(forms.PredictFields, "photo"), service.models.classifier is not None

    @app.post("/v1/predict", response_model=schemas.Predicted, responses=ERRORS, tags=TAGS, openapi_extra=form,
              include_in_schema=served)  # fmt: skip
    async def predict(request: Request) -> dict[str, Any]:
        """Return the most probable classes of an image; of a model trained on face crops, of the selected face."""
        given = await read_form(request, settings.limits)
        fields = given.read(forms.PredictFields, "photo")
        image = given.one("photo")
        return await service.answer(request, partial(service.predict, image, fields.top_k), [image])

    each = served and service.models.classifier.cropper is not None  # type: ignore[union-attr]

    @app.post("/v1/predict/faces", response_model=schemas.PredictedFaces, responses=ERRORS, tags=TAGS,
              openapi_extra=form, include_in_schema=each)  # fmt: skip
    async def predict_faces(request: Request) -> dict[str, Any]:
        """Return the most probable classes of each face of an image, from left to right."""
        given = await read_form(request, settings.limits)
        fields = given.read(forms.PredictFields, "photo")
        image = given.one("photo")
        return await service.answer(request, partial(service.predict_faces, image, fields.top_k), [image])

    classes = () if service.models.classifier is None else service.models.classifier.explained
    form, served = form_of(forms.ExplainFields, "photo", choices={"class": classes}), service.explains_classes

    @app.post("/v1/explain/class", response_model=schemas.ExplainedClass, responses=ERRORS, tags=TAGS,
              openapi_extra=form, include_in_schema=served)  # fmt: skip
    async def explain_class(request: Request) -> dict[str, Any]:
        """Show where the network saw a class; the most probable one by default."""
        return await _explain_class(request, await read_form(request, settings.limits), service)


def _add_two_images(app: FastAPI, service: Service, settings: Settings) -> None:
    form = form_of(forms.VerifyFields, "a", "b")

    @app.post("/v1/verify", response_model=schemas.Verified, responses=ERRORS, tags=TAGS, openapi_extra=form)
    async def verify(request: Request) -> dict[str, Any]:
        """Decide whether two images show the same person."""
        given = await read_form(request, settings.limits)
        fields = given.read(forms.VerifyFields, "a", "b")
        a, b = given.one("a"), given.one("b")
        return await service.answer(request, partial(service.verify, a, b, fields.select_face, fields.far), [a, b])

    form = form_of(forms.ExplainPairFields, "a", "b")
    answers: Any = schemas.ExplainedPair | schemas.ExplainedClass

    @app.post("/v1/explain", response_model=answers, responses=ERRORS, tags=TAGS, openapi_extra=form)
    async def explain(request: Request) -> dict[str, Any]:
        """Show which regions made two faces similar."""
        given = await read_form(request, settings.limits)
        if "photo" in given.images:  # as in 0.1, before there was /v1/explain/class
            return await _explain_class(request, given, service)
        fields = given.read(forms.ExplainPairFields, "a", "b")
        a, b = given.one("a"), given.one("b")
        return await service.answer(request, partial(service.explain_pair, a, b, fields.select_face), [a, b])


async def _explain_class(request: Request, given: Form, service: Service) -> dict[str, Any]:
    fields = given.read(forms.ExplainFields, "photo")
    image = given.one("photo")
    return await service.answer(request, partial(service.explain_class, image, fields.name), [image])
