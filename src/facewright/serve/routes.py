"""The routes: of images (detect, embed, classify, compare, explain), and of the gallery (identify, enroll, browse)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
    Form,
    NamePart,
    PageSize,
    PersonName,
    form_of,
    read_form,
)
from facewright.serve.responses import ApiError, documented, without_places
from facewright.serve.service import Service
from facewright.serve.settings import Settings

TAGS: list[str | Enum] = ["images"]
READ = documented((400, 401, 403, 404, 409, 503))
FORM = documented((400, 401, 403, 408, 409, 413, 415, 503, 507))
WRITE = documented((400, 401, 403, 404, 409, 503, 507))


@dataclass(frozen=True)
class FormRoute:
    """A route for a form of images, one of each name, and fields."""

    path: str  # below /v1/
    work: Callable[..., dict[str, Any]]  # images and fields -> the answer; its name and description are the route's
    answer: type[schemas.Answer]
    fields: type[forms.Fields]
    images: tuple[str, ...] = ("photo",)
    described: bool = True  # else the model cannot answer it: it says so, and is not part of the description
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)  # values of a field that only this server knows


def add(app: FastAPI, service: Service, settings: Settings) -> None:
    """Add all routes to an application."""
    classifier = service.models.classifier
    faces, classes = classifier is not None and classifier.cropper is not None, classifier is not None
    known = {"class": () if classifier is None else classifier.explained}
    pair, predict = ("a", "b"), forms.PredictFields
    for row in (
        FormRoute("faces", service.faces, schemas.Faces, forms.Fields),
        FormRoute("embed", service.embed, schemas.Embedded, forms.Fields),
        FormRoute("predict", service.predict, schemas.Predicted, predict, described=classes),
        FormRoute("predict/faces", service.predict_faces, schemas.PredictedFaces, predict, described=faces),
        FormRoute("explain/class", service.explain_class, schemas.ExplainedClass, forms.ExplainFields,
                  described=service.explains_classes, choices=known),
        FormRoute("verify", service.verify, schemas.Verified, forms.VerifyFields, pair),
    ):  # fmt: skip
        _add_form(app, service, settings, row)
    _add_explain(app, service, settings)
    if service.models.gallery is not None:
        row = FormRoute("gallery/identify", service.identify, schemas.Identified, forms.IdentifyFields)
        _add_form(app, service, settings, row)
        _add_enroll(app, service, settings)
        _add_calibrate(app, service)
        _add_browse(app, service)
        _add_delete(app, service)


def _add_form(app: FastAPI, service: Service, settings: Settings, row: FormRoute) -> None:
    async def ask(request: Request) -> dict[str, Any]:
        return await _answer(request, await read_form(request, settings.limits), service, row)

    app.add_api_route(
        f"/v1/{row.path}",
        ask,
        methods=["POST"],
        name=row.work.__name__,
        description=row.work.__doc__,
        tags=["gallery"] if row.path.startswith("gallery/") else TAGS,
        response_model=row.answer,
        responses=FORM,
        include_in_schema=row.described,
        openapi_extra=form_of(row.fields, *row.images, choices=row.choices),
    )


async def _answer(request: Request, given: Form, service: Service, row: FormRoute) -> dict[str, Any]:
    fields, images = given.read(row.fields, *row.images), [given.one(name) for name in row.images]
    return await service.answer(request, partial(row.work, *images, **fields.model_dump()), images)


def _add_explain(app: FastAPI, service: Service, settings: Settings) -> None:
    form, answers = form_of(forms.ExplainPairFields, "a", "b"), schemas.ExplainedPair | schemas.ExplainedClass
    pair = FormRoute("explain", service.explain_pair, schemas.ExplainedPair, forms.ExplainPairFields, ("a", "b"))
    one = FormRoute("explain", service.explain_class, schemas.ExplainedClass, forms.ExplainFields)

    @app.post("/v1/explain", response_model=answers, responses=FORM, tags=TAGS, openapi_extra=form)
    async def explain(request: Request) -> dict[str, Any]:
        """Show which regions made two faces similar."""
        given = await read_form(request, settings.limits)  # `photo`: as in 0.1, before there was /v1/explain/class
        return await _answer(request, given, service, one if "photo" in given.images else pair)


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


def _add_calibrate(app: FastAPI, service: Service) -> None:
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
    same = {name: getattr(chosen, name) for name in ("value", "people", "entries", "few_people")}
    return same | {"fpir_target": chosen.far_target}


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
