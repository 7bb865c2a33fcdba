"""`watch` on real streams over TCP, HTTP and RTSP that break off, come back, and at last do not."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facewright.cli.main import main
from facewright.errors import DataError
from facewright.events import Event, Message
from facewright.gallery.gallery import Gallery
from facewright.gallery.results import Photo
from facewright.video import frames
from facewright.video.tracks import TrackEvent
from facewright.workflows.watching import watch
from fixtures.faces import draw_people, saved
from fixtures.rtsp import camera
from fixtures.streams import StreamServer, encoded, served
from fixtures.tiles import stand_in

pytest.importorskip("av")
THRESHOLD = 0.9


@pytest.fixture
def gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gallery:
    """person_00 of three people; a stream that is lost is waited for in milliseconds."""
    stand_in(monkeypatch)
    monkeypatch.setattr(frames, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(frames, "GONE", 0.004)
    monkeypatch.setattr(frames, "END_PATIENCE", 0.0)
    folder = draw_people(tmp_path / "photos", people=3, photos=2)
    made = Gallery.open(tmp_path / "g.gallery", saved(tmp_path), detector="dlib")
    made.enroll([Photo.of(folder / "person_00/0.png", "person_00")])
    return made


@pytest.fixture
def image(gallery: Gallery, tmp_path: Path) -> np.ndarray:
    """person_00 beside an unknown one."""
    return np.concatenate([np.asarray(Image.open(tmp_path / f"photos/person_0{who}/0.png")) for who in (0, 2)], axis=1)


STREAMS: dict[str, Callable[[np.ndarray], AbstractContextManager[StreamServer]]] = {
    "MPEG-TS over TCP": lambda image: served(encoded(image, "mpegts"), "mpegts", connections=2),
    "MPEG-TS over HTTP": lambda image: served(encoded(image, "mpegts"), "mpegts", http=True, connections=2),
    "MJPEG over HTTP": lambda image: served(encoded(image, "mpjpeg"), "mpjpeg", http=True, connections=2),
    "H.264 over RTSP": lambda image: camera(image, "h264", connections=2),
    "MJPEG over RTSP": lambda image: camera(image, "mjpeg", connections=2),
    "MPEG-4 over RTSP, with a login": lambda image: camera(image, "mpeg4", connections=2, login="me:secret"),
}


@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_that_breaks_comes_back_and_is_gone(gallery: Gallery, image: np.ndarray, stream: str) -> None:
    events: list[TrackEvent] = []
    said: list[Event] = []
    with STREAMS[stream](image) as server:

        def on_track(event: TrackEvent) -> None:
            events.append(event)
            if [one.event for one in events[-2:]] == ["seen", "seen"]:  # both faces are there
                server.break_off()

        watched = watch(
            server.address, gallery, threshold=THRESHOLD, linger=3600, on_track=on_track, on_event=said.append
        )
    seen = [event.person for event in events if event.event == "seen"]
    ended = [event for event in events if event.event == "ended"]
    assert seen == ["person_00", None] * 2 and sorted(event.track for event in ended) == [1, 2, 3, 4]
    assert watched.people == {"person_00": 2} and watched.unknown == 2
    assert watched.broken is not None and "no connection" in watched.broken and watched.reconnects >= 3
    assert any("lost" in event.text for event in said if isinstance(event, Message))
    assert all(event.at is not None and event.frames >= 3 for event in events)


def test_the_command(gallery: Gallery, image: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gallery.close()
    words = ["-g", str(tmp_path / "g.gallery"), "--threshold", str(THRESHOLD), "--duration", "0", "-q"]
    with served(encoded(image, "mpegts"), "mpegts") as server:
        assert main(["watch", server.address, *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["source"] == server.address
    assert main(["watch", server.address, *words[:-3]]) == 1  # nobody listens any more
    assert capsys.readouterr().err.count("\n") == 1


def test_a_server_that_sends_something_else(gallery: Gallery) -> None:
    playlist = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n" * 10_000
    with served(playlist, "mpegts", http=True) as server, pytest.raises(DataError, match="cannot be opened"):
        watch(server.address, gallery, threshold=THRESHOLD)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        watched = watch(address, gallery, threshold=THRESHOLD, duration=0.0)
    assert watched.decoded == 0


def test_a_camera_that_refuses_the_login_is_one_line(gallery: Gallery, image: np.ndarray) -> None:
    with camera(image, "mjpeg", login="me:secret") as server:
        wrong = server.address.replace("secret", "guessed")
        with pytest.raises(DataError, match="401") as error:
            watch(wrong, gallery, threshold=THRESHOLD)
    assert "guessed" not in str(error.value)


def test_a_camera_that_falls_silent_is_connected_again(
    gallery: Gallery, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "PATIENCE", 1.0)
    said: list[Event] = []
    with camera(image, "h264", connections=2, silent=True) as server:
        watched = watch(server.address, gallery, threshold=THRESHOLD, on_event=said.append)
    assert [method for method in server.asked if method != "TEARDOWN"] == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"] * 2
    assert watched.decoded >= 2 and watched.reconnects >= 2 and watched.broken is not None
    lost = [event.text for event in said if isinstance(event, Message)]
    assert len(lost) >= 2 and all(line.count(server.address) == 1 for line in lost)
