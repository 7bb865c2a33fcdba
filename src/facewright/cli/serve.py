"""`facewright serve`: the HTTP API and the web page."""

from __future__ import annotations

from typing import Annotated

import typer

from facewright.cli.output import say
from facewright.errors import UsageError

TOKEN = "FACEWRIGHT_TOKEN"


def serve(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A run folder, a model file, architecture@weights; built-in if left out.",
        ),
    ] = None,
    gallery: Annotated[
        str | None,
        typer.Option("--gallery", "-g", metavar="FILE|URL", help="A gallery of people; made where there is none."),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(help="What finds the faces: dlib, none, or YuNet's .onnx file; the model's habit if left out."),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; this machine alone if left out.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar=TOKEN, help="That every request must carry; made and printed beyond this machine."),
    ] = None,
    names: Annotated[
        list[str] | None, typer.Option("--allow-host", metavar="NAME", help="A further name of this server.")
    ] = None,
    keep_crops: Annotated[
        bool, typer.Option("--keep-crops/--no-keep-crops", help="Keep the faces of who is enrolled, to show them.")
    ] = True,
    batch: Annotated[int, typer.Option(min=1, help="Pictures that pass a network together at most.")] = 32,
    waiting: Annotated[int, typer.Option(min=1, help="Requests that are answered at once; others are told so.")] = 64,
) -> None:
    """Serve the models and a gallery: a web page and an HTTP API.

    It listens on this machine alone unless told otherwise; on any other address every request needs a token. Put a
    reverse proxy with TLS before it where others reach it. Ctrl-C ends it.

    \b
    Example:
      facewright serve
      facewright serve --gallery people.gallery
      facewright serve runs/a --port 9000
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise UsageError("serving takes more packages: pip install 'facewright[serve]'") from None
    from facewright.serve import settings as chosen

    beyond = not chosen.is_loopback(host)
    made = chosen.new_token() if token is None and beyond else token
    settings = chosen.Settings(
        host, port, made, frozenset(name.lower() for name in names or ()), chosen.Limits(batch=batch, waiting=waiting)
    )
    from facewright.serve import running, starting

    with running.listen(settings) as listening:
        models = starting.load(model, gallery, detector=detector, keep_crops=keep_crops)
        address = running.address_of(listening, host)
        people = "" if models.gallery is None else f", a gallery of {len(models.gallery.people()):,} people"
        say(f"{models.name}{people}: {address}")
        if token is None and made is not None:
            say(f"token, told only now: {made}\nin a browser: {address}?token={made}")
        running.run(models, settings, listening)
