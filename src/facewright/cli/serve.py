"""`facewright serve`: the HTTP API and the web page."""

from __future__ import annotations

from typing import Annotated

import typer

from facewright.cli import options as opt
from facewright.cli.output import say

TOKEN = "FACEWRIGHT_TOKEN"


def serve(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]", help="A run directory, a model file, architecture@weights. Default: built-in."
        ),
    ] = None,
    gallery: Annotated[
        str | None,
        typer.Option("--gallery", "-g", metavar="FILE|URL", help="A gallery of people; created if missing."),
    ] = None,
    detector: opt.Detector = None,
    device: opt.Device = None,
    host: Annotated[str, typer.Option(help="Address to listen on. Default: this machine only.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: any free port.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar=TOKEN, help="Required in every request. Created and printed for other addresses."),
    ] = None,
    names: Annotated[
        list[str] | None, typer.Option("--allow-host", metavar="NAME", help="Another name of this server. Repeatable.")
    ] = None,
    root_path: Annotated[
        str, typer.Option(metavar="PATH", help="Path under which a reverse proxy publishes the server, as /faces.")
    ] = "",
    proxies: Annotated[
        list[str] | None,
        typer.Option(
            "--proxy", metavar="ADDRESS", help="A reverse proxy whose X-Forwarded headers are used. Repeatable."
        ),
    ] = None,
    origins: Annotated[
        list[str] | None,
        typer.Option("--cors", metavar="ORIGIN", help="A web site whose pages may call the API. Repeatable."),
    ] = None,
    keep_crops: Annotated[
        bool, typer.Option("--keep-crops/--no-keep-crops", help="Keep the face crops of enrolled people, to show them.")
    ] = True,
    batch: Annotated[int, typer.Option(min=1, max=1024, help="Max. images in one batch.")] = 32,
    waiting: Annotated[
        int, typer.Option(min=1, max=10_000, help="Max. concurrent requests; further ones get 503.")
    ] = 64,
) -> None:
    """Serve the models and a gallery: a web page and an HTTP API.

    It listens on this machine only unless --host is given; on any other address every request needs a token. Put a
    reverse proxy with TLS in front of it where others can reach it. Ctrl-C stops it.

    \b
    Example:
      facewright serve
      facewright serve --gallery people.gallery
      facewright serve runs/a --port 9000
    """
    from facewright.serve import settings as serving

    used = serving.new_token() if token is None and not serving.is_loopback(host) else token
    settings = serving.Settings(
        host=host,
        port=port,
        token=used,
        names=frozenset(name.lower() for name in names or ()),
        root_path=root_path.rstrip("/"),
        proxies=serving.networks_of(proxies or ()),
        origins=frozenset(origins or ()),
        limits=serving.Limits(batch=batch, waiting=waiting),
    )
    from facewright.serve import server

    with server.open_socket(settings) as listening:
        models = server.load(model, gallery, detector=detector, keep_crops=keep_crops, device=device)
        address = server.address_of(listening, settings)
        people = "" if models.gallery is None else f", a gallery of {len(models.gallery.people()):,} people"
        say(f"{models.name}{people}: {address}")
        if token is None and used is not None:
            say(f"token, shown only once: {used}\nin a browser: {address}?token={used}")
        server.run(models, settings, listening)
