"""The routes: of images (detect, embed, classify, compare, explain), and of the gallery (identify, enroll, browse)."""

from __future__ import annotations

from enum import Enum
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from facewright.errors import UsageError
from facewright.gallery.editing import advice_for
from facewright.metrics.thresholds import Threshold
from facewright.serve import forms, schemas
from facewright.serve.forms import (
    EntryNumber,
    FieldsT,
    Form,
    NamePart,
    PageSize,
    PersonName,
    Upload,
    form_of,
    read_form,
)
from facewright.serve.http_errors import ApiError, documented, without_places
from facewright.serve.service import Service
from facewright.serve.settings import Settings

ERRORS = documented((400, 401, 403, 408, 409, 413, 415, 503))
TAGS: list[str | Enum] = ["images"]
READ = documented((400, 401, 403, 404, 409, 503))
FORM = documented((400, 401, 403, 408, 409, 413, 415, 503, 507))
WRITE = documented((400, 401, 403, 404, 409, 503, 507))


def add(app: FastAPI, service: Service, settings: Settings) -> None:
    """Add them; a route that the model cannot answer says so, and is not part of the description."""
    _add_one_image(app, service, settings)
    _add_classes(app, service, settings)
    _add_two_images(app, service, settings)
    if service.models.gallery is not None:
        _add_identify(app, service, settings)
        _add_enroll(app, service, settings)
        _add_browse(app, service)
        _add_delete(app, service)


async def _asked(
    request: Request, settings: Settings, model: type[FieldsT], *names: str
) -> tuple[FieldsT, list[Upload]]:
    """Read the fields of a request, and its images, one of each name."""
    given = await read_form(request, settings.limits)
    return given.read(model, *names), [given.one(name) for name in names]


def _add_one_image(app: FastAPI, service: Service, settings: Settings) -> None:
    form = form_of(forms.Fields, "photo")

    @app.post("/v1/faces", response_model=schemas.Faces, responses=ERRORS, tags=TAGS, openapi_extra=form)
    async def faces(request: Request) -> dict[str, Any]:
        """Detect the faces of an image."""
        _, (image,) = await _asked(request, settings, forms.Fields, "photo")
        return await service.answer(request, partial(service.faces, image), [image])

    @app.post("/v1/embed", response_model=schemas.Embedded, responses=ERRORS, tags=TAGS, openapi_extra=form)
    async def embed(request: Request) -> dict[str, Any]:
        """Return the vector of each face of an image."""
        _, (image,) = await _asked(request, settings, forms.Fields, "photo")
        return await service.answer(request, partial(service.embed, image), [image])


def _add_classes(app: FastAPI, service: Service, settings: Settings) -> None:
    form, served = form_of(forms.PredictFields, "photo"), service.models.classifier is not None

    @app.post("/v1/predict", response_model=schemas.Predicted, responses=ERRORS, tags=TAGS, openapi_extra=form,
              include_in_schema=served)  # fmt: skip
    async def predict(request: Request) -> dict[str, Any]:
        """Return the most probable classes of an image; of a model trained on face crops, of the selected face."""
        fields, (image,) = await _asked(request, settings, forms.PredictFields, "photo")
        return await service.answer(request, partial(service.predict, image, fields.top_k), [image])

    each = served and service.models.classifier.cropper is not None  # type: ignore[union-attr]

    @app.post("/v1/predict/faces", response_model=schemas.PredictedFaces, responses=ERRORS, tags=TAGS,
              openapi_extra=form, include_in_schema=each)  # fmt: skip
    async def predict_faces(request: Request) -> dict[str, Any]:
        """Return the most probable classes of each face of an image, from left to right."""
        fields, (image,) = await _asked(request, settings, forms.PredictFields, "photo")
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
        fields, (a, b) = await _asked(request, settings, forms.VerifyFields, "a", "b")
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


def gallery_facts(service: Service) -> dict[str, Any]:
    """Return what `/v1/about` says of the gallery."""
    gallery = service.gallery()
    people = gallery.people()
    threshold = gallery.threshold
    return {
        "people": len(people),
        "entries": sum(people.values()),
        "threshold": _threshold(threshold),
        "advice": list(advice_for(people, threshold)),
    }


def _add_identify(app: FastAPI, service: Service, settings: Settings) -> None:
    form = form_of(forms.IdentifyFields, "photo")

    @app.post("/v1/gallery/identify", response_model=schemas.Identified, responses=FORM, tags=["gallery"],
              openapi_extra=form)  # fmt: skip
    async def identify(request: Request) -> dict[str, Any]:
        """Look up every face of an image in the gallery."""
        fields, (image,) = await _asked(request, settings, forms.IdentifyFields, "photo")
        work = partial(service.identify, image, fields.top_k, fields.threshold)
        return await service.answer(request, work, [image])

    @app.post("/v1/gallery/calibrate", response_model=schemas.Calibrated, responses=WRITE, tags=["gallery"])
    async def calibrate(request: Request, fields: forms.CalibrateBody) -> dict[str, Any]:
        """Choose from the enrolled people the score from which on a face is known."""
        chosen = await service.answer(request, partial(service.gallery().calibrate, fields.fpir))
        warning = None
        if chosen.few_people:
            warning = (
                f"{chosen.people:,} people are few for a false-positive rate of {fields.fpir:g}: it is known only "
                "roughly. Enroll more people, or ask for a higher rate"
            )
        return {"threshold": _threshold(chosen), "warning": warning}


def _add_enroll(app: FastAPI, service: Service, settings: Settings) -> None:
    form = form_of(forms.EnrollFields, "photo", several=True)

    @app.post("/v1/gallery/enroll", response_model=schemas.Enrolled, responses=FORM, tags=["gallery"],
              openapi_extra=form)  # fmt: skip
    async def enroll(request: Request) -> dict[str, Any]:
        """Enroll images of one person; an image that the person was enrolled with before stays as it is."""
        given = await read_form(request, settings.limits)
        fields = given.read(forms.EnrollFields, "photo")
        images = given.several("photo")
        work = partial(service.enroll, images, fields.person, fields.metadata, fields.select_face)
        return await service.answer(request, work, images)


def _add_browse(app: FastAPI, service: Service) -> None:
    store = service.gallery().store

    @app.get("/v1/gallery/people", response_model=schemas.People, responses=READ, tags=["gallery"])
    async def people(
        request: Request, after: NamePart = "", limit: PageSize = 200, like: NamePart = ""
    ) -> dict[str, Any]:
        """List the enrolled people by name: those after `after` whose name contains `like`."""
        return await service.answer(request, partial(_people, service, after, limit, like))

    @app.get("/v1/gallery/entries", response_model=schemas.Entries, responses=READ, tags=["gallery"])
    async def entries(request: Request, person: PersonName) -> dict[str, Any]:
        """List the images that a person was enrolled with."""
        rows = await service.answer(request, lambda: list(store.rows([person])))
        if not rows:
            raise ApiError(404, f"{person[:100]!r} is not enrolled")
        listed = [
            {"number": r.number, "photo": r.entry.photo, "metadata": dict(r.entry.metadata), "crop": r.has_crop}
            for r in rows
        ]
        return {"person": person, "entries": listed}

    png: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}, "description": "PNG"}}

    @app.get("/v1/gallery/entries/{number}/crop", responses=READ | png, tags=["gallery"], response_class=Response)
    async def crop(request: Request, number: EntryNumber) -> Response:
        """Return the aligned face crop that is kept with an entry."""
        content = await service.answer(request, partial(store.crop, number))
        if content is None:
            raise ApiError(404, f"there is no entry {number} with a face crop")
        return Response(content, media_type="image/png")


def _add_delete(app: FastAPI, service: Service) -> None:
    @app.delete("/v1/gallery/people", response_model=schemas.Deleted, responses=WRITE, tags=["gallery"])
    async def delete_person(request: Request, person: PersonName) -> dict[str, Any]:
        """Delete a person: every byte of the vectors and face crops leaves the files."""
        return await service.answer(request, partial(_delete, service, people=[person]))

    @app.delete("/v1/gallery/entries/{number}", response_model=schemas.Deleted, responses=WRITE, tags=["gallery"])
    async def delete_entry(request: Request, number: EntryNumber) -> dict[str, Any]:
        """Delete one entry of a person."""
        return await service.answer(request, partial(_delete, service, numbers=[number]))


def _threshold(chosen: Threshold | None) -> dict[str, Any] | None:
    if chosen is None:
        return None
    return {
        "value": chosen.value,
        "fpir_target": chosen.far_target,
        "people": chosen.people,
        "entries": chosen.entries,
        "few_people": chosen.few_people,
    }


def _people(service: Service, after: str, limit: int, like: str) -> dict[str, Any]:
    """A page of the list; for each person an entry whose face crop is kept."""
    gallery = service.gallery()
    wanted = like.casefold()
    counts = {name: n for name, n in sorted(gallery.people().items()) if wanted in name.casefold()}
    behind = [name for name in counts if name > after]
    shown = behind[:limit]
    crops: dict[str, int] = {}
    for row in gallery.store.rows(shown) if shown else ():
        if row.has_crop:
            crops.setdefault(row.entry.person, row.number)
    people = [{"person": name, "entries": counts[name], "crop": crops.get(name)} for name in shown]
    return {"people": people, "next": shown[-1] if len(behind) > limit else None, "total": len(counts)}


def _delete(service: Service, people: list[str] | None = None, numbers: list[int] | None = None) -> dict[str, Any]:
    gallery = service.gallery()
    try:
        count = gallery.delete(people or (), numbers or ())
    except UsageError as error:
        raise ApiError(404, without_places(str(error))) from None
    return {"deleted": count, "remains": gallery.store.remains}
