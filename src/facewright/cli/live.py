"""`facewright watch` and `serve`: what works on a gallery until it is stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facewright.cli import gallery_records as records
from facewright.cli import options as opt
from facewright.cli.output import check_writable, number_of, report, say, show
from facewright.cli.progress import event_printer
from facewright.errors import UsageError

if TYPE_CHECKING:
    from facewright.video.delivery import Delivery, Send
    from facewright.video.tracks import TrackEvent, Watched


MAX_EVERY = 1000
MAX_SECONDS = 366 * 86_400.0
TOKEN = "FACEWRIGHT_TOKEN"


def watch(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A film, rtsp|tcp|http://..., camera, or camera:N.")],
    gallery_at: opt.GalleryAt,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The gallery's model, where its name has changed.")
    ] = None,
    detector: opt.Detector = None,
    threshold: Annotated[
        float | None, opt.bounded(low=-1, high=1, help="Min. mean similarity of a match. Default: the gallery's.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, max=MAX_EVERY, help="Search only every N-th frame.")] = 1,
    min_face: Annotated[float, opt.bounded(low=8, high=10_000, help="Side of the smallest face, in pixels.")] = 30,
    min_frames: Annotated[int, typer.Option(min=1, max=1000, help="Min. searched frames in which a face is seen.")] = 3,
    linger: Annotated[float, opt.bounded(low=0, high=3600, help="Seconds that a face may be hidden.")] = 2,
    duration: Annotated[
        float | None, opt.bounded(low=0, high=MAX_SECONDS, help="Stop after this many seconds.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Append the events to this file as JSON lines; face crops beside it."),
    ] = None,
    draw: Annotated[
        Path | None, typer.Option(metavar="FILE.mp4", help="Film to write, with a box and a name at each face.")
    ] = None,
    webhook: Annotated[str | None, typer.Option(metavar="URL", help="Post each event to this address as JSON.")] = None,
    mqtt: Annotated[
        str | None, typer.Option(metavar="mqtt://HOST/TOPIC", help="Publish each event; also mqtts://USER:PASSWORD@...")
    ] = None,
    device: opt.Device = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Find out who is in a film or before a camera, and when.

    Each face is tracked from its first frame to its last; then there is one event (of a camera or stream also one
    while it is there). The best frames of a track vote; the answer is a person of the gallery, or unknown; of the faces
    of a frame each is another person. A cut ends all tracks. A gallery has one
    detector: YuNet's (--detector yunet.onnx when it is enrolled) takes some 20 frames a second, dlib one.

    \b
    Example:
      facewright watch film.mp4 --gallery people.gallery --out events.jsonl
      facewright watch film.mp4 -g people.gallery --every 5 --draw named.mp4
      facewright watch rtsp://door/1 -g people.gallery --webhook http://home/events
    """
    from facewright.gallery.gallery import Gallery
    from facewright.video import delivery
    from facewright.video.frames import shown
    from facewright.workflows import watching

    check_writable(out)
    check_writable(draw)
    if draw is not None and draw.suffix.lower() != ".mp4":
        raise UsageError(f"expected --draw FILE.mp4, got {draw}")
    sends = [(shown(url), send(url)) for url, send in ((webhook, delivery.webhook), (mqtt, delivery.mqtt)) if url]
    with (
        Gallery.open(gallery_at, model, detector=detector, device=device) as gallery,
        event_printer(quiet) as on_event,
        nullcontext() if out is None else out.open("a", encoding="utf-8") as events,
        _delivering(sends) as deliveries,
    ):

        def on_track(event: TrackEvent) -> None:
            line = json.dumps(event.to_dict(), allow_nan=False)
            if events is not None:
                events.write(line + "\n")
                events.flush()
            for one in deliveries:
                one.put(line.encode())
            if not as_json:
                show(_describe_track(event))

        watched = watching.watch(
            source, gallery, threshold=threshold, every=every, smallest=min_face, linger=linger, min_frames=min_frames,
            duration=duration, crops=None if out is None else out.with_name(f"{out.stem}-crops"), draw=draw,
            on_track=on_track, on_event=on_event,
        )  # fmt: skip
        stored = gallery.threshold
    if watched.calibrated is not None and stored is None:
        say(records.default_used(watched.gallery, watched.calibrated))
    if watched.broken is not None:
        say(f"warning: {watched.source}: ended early, at {watched.seconds:.1f} s: {watched.broken}")
    undelivered = {one.target: one.lost for one in deliveries}
    for target, lost in undelivered.items():
        if lost:
            say(f"warning: {target}: {number_of(lost, 'event')} not delivered")
    report({**watched.to_dict(), "undelivered": undelivered}, _describe_watched(watched), as_json)


@contextmanager
def _delivering(sends: Sequence[tuple[str, Send]]) -> Iterator[list[Delivery]]:
    from facewright.video.delivery import Delivery

    deliveries = [Delivery(target, send, say) for target, send in sends]
    try:
        yield deliveries
    finally:
        for one in deliveries:
            one.close()


def _describe_track(event: TrackEvent) -> str:
    when = f"{event.start:.2f} s: seen" if event.event == "seen" else f"{event.start:.2f}-{event.end:.2f} s"
    if event.person is None:
        return f"{when}: unknown; {event.reason}"
    return f"{when}: {event.person} ({event.score:.4f} >= {event.threshold:.4f}, {number_of(event.frames, 'frame')})"


def _describe_watched(watched: Watched) -> str:
    fps = "" if watched.fps is None else f", {watched.fps:.1f} frames a second"
    facts = [
        f"{watched.seconds:.1f} s, {number_of(watched.decoded, 'frame')}{fps}",
        f"{number_of(watched.events, 'event')} of {number_of(len(watched.people), 'person', 'people')}, "
        f"{watched.unknown:,} unknown",
    ]
    if watched.short:
        facts.append(f"{number_of(watched.short, 'short track')} without an event")
    if watched.dropped:
        facts.append(f"{number_of(watched.dropped, 'frame')} dropped, to stay on time")
    if watched.reconnects:
        facts.append(f"{number_of(watched.reconnects, 'lost connection')}")
    if watched.damaged:
        facts.append(f"{number_of(watched.damaged, 'damaged packet')}")
    return "; ".join(facts)


def serve(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]", help="A run directory, a model file, architecture@weights. Default: built-in."
        ),
    ] = None,
    gallery: Annotated[
        str | None, typer.Option("--gallery", "-g", metavar="FILE|URL", help="A gallery of people; created if missing.")
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
