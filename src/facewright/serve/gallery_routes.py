"""The routes of the gallery: look people up, enrol, browse, forget."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from facewright.errors import UsageError
from facewright.gallery.photos import Photo
from facewright.serve import asked, schemas
from facewright.serve.about import gallery_threshold
from facewright.serve.asked import form_of
from facewright.serve.refusals import Refusal, documented
from facewright.serve.service import Service, threaded
from facewright.serve.settings import Settings
from facewright.serve.uploads import read_form

REFUSALS = (400, 401, 403, 404, 408, 409, 413, 415, 503)
MOST_PEOPLE = 1_000  # told at once
Name = Annotated[str, Query(min_length=1, max_length=1_000)]


def add(app: FastAPI, service: Service, settings: Settings) -> None:
    """Add them."""
    _add_looking_up(app, service, settings)
    _add_browsing(app, service)
    _add_changing(app, service, settings)


def _add_looking_up(app: FastAPI, service: Service, settings: Settings) -> None:
    @app.post(
        "/v1/gallery/identify", response_model=schemas.Known, responses=documented(REFUSALS), tags=["gallery"],
        openapi_extra=form_of(asked.IdentifyFields, "photo"),
    )  # fmt: skip
    async def identify(request: Request) -> dict[str, Any]:
        """Who is on a photo: every face of it, looked up."""
        given = await read_form(request, settings.limits)
        fields = given.read(asked.IdentifyFields, ("photo",))
        async with service.admitted():
            return await service.identify(given.one("photo"), fields.top_k, fields.threshold)


def _add_browsing(app: FastAPI, service: Service) -> None:
    gallery = service.gallery()

    @app.get("/v1/gallery/people", response_model=schemas.People, responses=documented((400, 401, 403)),
             tags=["gallery"])  # fmt: skip
    async def people(
        after: str = "", limit: Annotated[int, Query(ge=1, le=MOST_PEOPLE)] = 200, like: str = ""
    ) -> dict[str, Any]:
        """Who is enrolled, by name: those behind `after` whose name contains `like`."""
        return await threaded(partial(_people, service, after, limit, like))

    @app.get("/v1/gallery/entries", response_model=schemas.Entries, responses=documented((400, 401, 403, 404)),
             tags=["gallery"])  # fmt: skip
    async def entries(person: Name) -> dict[str, Any]:
        """What a person was enrolled with."""
        rows = await threaded(lambda: list(gallery.store.rows([person])))
        if not rows:
            raise Refusal(404, f"{person!r} is not enrolled")
        listed = [
            {"number": r.number, "photo": r.entry.photo, "metadata": dict(r.entry.metadata), "crop": r.has_crop}
            for r in rows
        ]
        return {"person": person, "entries": listed}

    @app.get("/v1/gallery/entries/{number}/crop", responses=documented((401, 403, 404)), tags=["gallery"],
             response_class=Response)  # fmt: skip
    async def crop(number: int) -> Response:
        """The face that is kept with an entry: a PNG."""
        found = await threaded(partial(gallery.store.crop, number))
        if found is None:
            raise Refusal(404, f"no face is kept with an entry {number}")
        return Response(found, media_type="image/png")


def _add_changing(app: FastAPI, service: Service, settings: Settings) -> None:
    gallery = service.gallery()

    @app.post(
        "/v1/gallery/enroll", response_model=schemas.Enrolled, responses=documented(REFUSALS), tags=["gallery"],
        openapi_extra=form_of(asked.EnrollFields, "photo", several=True),
    )  # fmt: skip
    async def enroll(request: Request) -> dict[str, Any]:
        """Enrol photos of one person; a photo that he was enrolled with already stays as it is."""
        given = await read_form(request, settings.limits)
        fields = given.read(asked.EnrollFields, ("photo",))
        photos = [Photo(one.name, one.content, fields.person) for one in given.several("photo")]
        async with service.admitted():
            enrol = partial(
                gallery.enrol,
                photos,
                metadata=fields.metadata,
                keep_crops=service.models.keep_crops,
                policy=fields.policy,
            )
            return (await service.alone(enrol)).to_dict()

    @app.delete("/v1/gallery/people", response_model=schemas.Deleted, responses=documented((400, 401, 403, 404)),
                tags=["gallery"])  # fmt: skip
    async def forget(person: Name) -> dict[str, Any]:
        """Forget a person: every byte of his vectors and faces leaves the files."""
        return await _deleted(service, people=[person])

    @app.delete("/v1/gallery/entries/{number}", response_model=schemas.Deleted,
                responses=documented((401, 403, 404)), tags=["gallery"])  # fmt: skip
    async def forget_entry(number: int) -> dict[str, Any]:
        """Forget one entry of a person."""
        return await _deleted(service, numbers=[number])

    @app.post("/v1/gallery/calibrate", response_model=schemas.Calibrated, responses=documented((400, 401, 403, 409)),
              tags=["gallery"])  # fmt: skip
    async def calibrate(fields: asked.CalibrateBody) -> dict[str, Any]:
        """Choose from the enrolled themselves when somebody is unknown."""
        async with service.admitted():
            chosen = await threaded(partial(gallery.calibrate, fields.fpir))
        warning = None
        if chosen.few_people:
            warning = (
                f"{chosen.people:,} people say little about a rate of {fields.fpir:g}: expect more strangers to be "
                "taken for somebody, or ask for a higher rate"
            )
        return {"threshold": gallery_threshold(chosen), "warning": warning}


def _people(service: Service, after: str, limit: int, like: str) -> dict[str, Any]:
    """A page of the list; for each person an entry whose face is kept."""
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


async def _deleted(
    service: Service, people: list[str] | None = None, numbers: list[int] | None = None
) -> dict[str, Any]:
    gallery = service.gallery()
    try:
        count = await threaded(partial(gallery.delete, people or (), numbers or ()))
        return {"deleted": count, "remains": gallery.store.remains}
    except UsageError as error:
        raise Refusal(404, str(error)) from None
