"""The routes of the gallery: identify, enroll, browse, delete."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from facewright.errors import UsageError
from facewright.gallery.editing import advice_for
from facewright.metrics.thresholds import Threshold
from facewright.serve import forms, schemas
from facewright.serve.forms import EntryNumber, NamePart, PageSize, PersonName, form_of, read_form
from facewright.serve.http_errors import ApiError, documented, without_places
from facewright.serve.service import Service
from facewright.serve.settings import Settings

READ = documented((400, 401, 403, 404, 409, 503))
FORM = documented((400, 401, 403, 408, 409, 413, 415, 503, 507))
WRITE = documented((400, 401, 403, 404, 409, 503, 507))


def add(app: FastAPI, service: Service, settings: Settings) -> None:
    """Add them."""
    _add_identify(app, service, settings)
    _add_enroll(app, service, settings)
    _add_browse(app, service)
    _add_delete(app, service)


def facts(service: Service) -> dict[str, Any]:
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
        given = await read_form(request, settings.limits)
        fields = given.read(forms.IdentifyFields, "photo")
        image = given.one("photo")
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
