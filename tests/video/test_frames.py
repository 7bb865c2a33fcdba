"""Decoding: the frames, their times, cuts; and sources that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from facewright.errors import DataError, UsageError
from facewright.video.frames import Reading, is_live, read, upright
from fixtures.films import write_film

av = pytest.importorskip("av")


def grey(level: int) -> np.ndarray:
    return np.full((32, 48, 3), level, np.uint8)


def test_frames_times_and_cuts(tmp_path: Path) -> None:
    film = write_film(tmp_path / "a.mkv", [grey(10), grey(12), grey(90), grey(95), grey(99)])
    reading = Reading()
    frames = list(read(film, reading))
    assert [frame.pixels[0, 0, 0] for frame in frames] == [10, 12, 90, 95, 99]
    assert [frame.seconds for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert [frame.cut for frame in frames] == [False, False, True, False, False]
    assert (reading.decoded, reading.rate, reading.broken) == (5, 10, None)
    sampled = list(read(film, Reading(), every=3))  # the cut between two given frames is not lost
    assert [(frame.number, frame.cut) for frame in sampled] == [(0, False), (3, True)]


def test_a_film_on_its_side_is_turned_upright() -> None:
    pixels = grey(10)
    pixels[:, :10] = 200  # the left edge
    turned = upright(pixels, 90)
    assert turned.shape == (48, 32, 3) and (turned[-10:] == 200).all()  # counterclockwise: below
    assert (upright(pixels, -90)[:10] == 200).all() and (upright(pixels, 180.0)[:, -10:] == 200).all()


def playlist(folder: Path) -> Path:
    film = write_film(folder / "other.mkv", [grey(10)])
    path = folder / "list.mp4"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{film}\n#EXT-X-ENDLIST\n")
    return path


def without_frames(folder: Path) -> Path:
    """A film with its headers and not one frame."""
    path = write_film(folder / "none.mkv", [grey(10)])
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\x1fC\xb6u")])  # the first cluster
    return path


def only_sound(folder: Path) -> Path:
    path = folder / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def text(folder: Path) -> Path:
    path = folder / "text.mp4"
    path.write_text("no film")
    return path


def empty(folder: Path) -> Path:
    path = folder / "empty.mp4"
    path.touch()
    return path


def missing(folder: Path) -> Path:
    return folder / "missing.mp4"


@pytest.mark.parametrize("make", [playlist, without_frames, only_sound, text, empty, missing])
def test_what_is_no_film_is_refused(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(DataError, match=path.name):
        list(read(path, Reading()))


@pytest.mark.parametrize("source", ["ftp://door/1.mp4", "camera:x"])
def test_what_is_no_source_is_refused(source: str) -> None:
    with pytest.raises(UsageError):
        list(read(source, Reading()))
    assert not is_live(source)


def test_frames_that_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = write_film(tmp_path / "a.mkv", [np.zeros((1000, 1200, 3), np.uint8)])
    monkeypatch.setenv("FACEWRIGHT_MAX_MEGAPIXELS", "1")
    with pytest.raises(DataError, match="1200 x 1000"):
        list(read(film, Reading()))


def test_a_broken_film_gives_the_frames_before(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    film = write_film(tmp_path / "a.mkv", [draws.integers(0, 255, (32, 48, 3), np.uint8) for _ in range(20)])
    content = film.read_bytes()
    film.write_bytes(content[: len(content) // 2])
    reading = Reading()
    frames = list(read(film, reading))
    assert 5 < len(frames) < 15 and len(frames) == reading.decoded
