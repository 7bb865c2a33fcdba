"""Live sources: frames that are dropped rather than late, and connections that break. No test waits for time."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from facewright.errors import DataError
from facewright.video import frames as live
from facewright.video.frames import Frame, Live, Reading

PIXELS = np.zeros((2, 2, 3), np.uint8)


def frame(number: int, *, cut: bool = False) -> Frame:
    return Frame(number, -1.0, PIXELS, cut)


def test_a_slow_reader_gets_the_newest_frame() -> None:
    reading, taken, sent = Reading(), threading.Event(), threading.Event()

    def camera() -> Iterator[Frame]:
        yield frame(0)
        assert taken.wait(30)
        for number in range(1, 6):
            reading.decoded += 1
            yield frame(number, cut=number == 2)
        sent.set()
        threading.Event().wait(0)
        yield frame(6)

    ticks = iter(range(100))
    frames = Live(camera, reading, lambda line: None, wait=lambda pause: True, clock=lambda: next(ticks)).frames()
    first = next(frames)
    assert (first.number, first.cut) == (0, True) and reading.dropped == 0
    taken.set()
    assert sent.wait(30)
    later = next(frames)
    assert later.number in (5, 6) and later.cut  # the cut in a dropped frame is not lost
    assert reading.dropped == later.number - 1 and later.seconds == later.number + 1
    frames.close()


def test_a_lost_connection_is_made_again() -> None:
    reading, lines, pauses = Reading(), list[str](), list[float]()
    done = threading.Event()
    connections: list[Iterable[Frame] | DataError] = [
        [frame(0)],
        DataError("no route"),
        DataError("no route"),
        [frame(1)],
        [],
    ]

    def connect() -> Iterable[Frame]:
        result = connections.pop(0)
        if isinstance(result, DataError):
            raise result
        reading.decoded += 1
        return result

    def wait(pause: float) -> bool:
        pauses.append(pause)
        if len(pauses) == 5:
            done.set()
        return len(pauses) == 5

    frames = Live(connect, reading, lines.append, wait=wait).frames()
    found = [next(frames)]
    assert done.wait(30)
    if found[0].number == 0:
        found.append(next(frames))
    assert found[-1].number == 1 and found[-1].cut  # another connection is another shot
    frames.close()
    assert pauses == [1, 2, 4, 1, 2] and reading.reconnects == 5
    assert "no route" in lines[1] and "1 s" in lines[0]


def test_a_source_that_does_not_come_back_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "GONE", 10.0)
    reading, pauses = Reading(), list[float]()

    def connect() -> Iterable[Frame]:
        if reading.decoded:
            raise DataError("no route")
        reading.decoded = 1
        return [frame(0)]

    def wait(pause: float) -> bool:
        pauses.append(pause)
        return False

    assert [one.number for one in Live(connect, reading, lambda line: None, wait=wait).frames()] == [0]
    assert pauses == [1, 2, 4, 8] and reading.broken is not None and "15 s: no route" in reading.broken


def test_the_duration_ends_a_source_without_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "END_PATIENCE", 0.0)
    ended = threading.Event()

    def connect() -> Iterator[Frame]:
        ended.wait(30)
        yield from ()

    assert list(Live(connect, Reading(), lambda line: None, duration=0.0).frames()) == []
    ended.set()


def test_a_source_that_was_never_there_is_an_error() -> None:
    def connect() -> Iterable[Frame]:
        raise DataError("rtsp://door/1: cannot be opened: Connection refused")

    with pytest.raises(DataError, match="refused"):
        next(Live(connect, Reading(), lambda line: None).frames())
