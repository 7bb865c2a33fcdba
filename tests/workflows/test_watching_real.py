"""`watch` on real photos: a film of four shots, and a film made of photos in which two people cross."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facewright.gallery.gallery import Gallery
from facewright.gallery.results import Photo
from facewright.video.tracks import TrackEvent
from facewright.workflows.watching import watch
from fixtures.films import write_film

SHARED = Path(__file__).parents[2] / "../shared"
WEIGHTS = SHARED / "weights"
DETECTOR, NETWORK = WEIGHTS / "face_detection_yunet_2023mar.onnx", WEIGHTS / "mobilefacenet_arcface.safetensors"
FILM, LFW = SHARED / "data/film", SHARED / "data/lfw_view1_train/images"
PEOPLE = (
    *("Jennifer_Lopez", "Paul_Wolfowitz", "Ricardo_Lagos", "Jennifer_Garner", "Angelina_Jolie", "Hans_Blix"),
    *("John_Snow", "Zhu_Rongji", "Richard_Gephardt", "Cesar_Gaviria", "Li_Zhaoxing", "Jiri_Novak"),
)
CUTS = [20, 82, 211]  # frames of the film that begin a shot
RATE = 30_000 / 1001

pytestmark = pytest.mark.realdata


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    """The two people of the film, each with one photo, and twelve of LFW with three: a threshold for 1 %."""
    if not all(path.exists() for path in (DETECTOR, NETWORK, FILM, LFW)):
        pytest.skip("wants ../shared/weights, ../shared/data/film and ../shared/data/lfw_view1_train")
    pytest.importorskip("av")
    made = Gallery.for_enrolling(tmp_path / "g.gallery", f"mobilefacenet@{NETWORK}", detector=str(DETECTOR))
    photos = [Photo.of(path, path.parent.name) for path in sorted((FILM / "people").glob("*/*"))]
    photos += [Photo.of(path, name) for name in PEOPLE for path in sorted((LFW / name).iterdir())[:3]]
    made.enroll(photos)
    made.calibrate(0.01)
    return made


def test_nobody_unknown_is_named_in_a_film_of_four_shots(gallery: Gallery) -> None:
    events: list[TrackEvent] = []
    watched = watch(FILM / "short_hamilton_clip.mp4", gallery, every=2, on_track=events.append)
    shots = [int(np.searchsorted(CUTS, round(event.start * RATE), side="right")) for event in events]
    ends = [int(np.searchsorted(CUTS, round(event.end * RATE), side="right")) for event in events]
    assert shots == ends  # no track goes on after a cut
    known = {(event.person, shot) for event, shot in zip(events, shots, strict=True) if event.person is not None}
    assert ("lin-manuel-miranda", 2) in known  # alone in the third shot, before the microphone
    assert known <= {("lin-manuel-miranda", 0), ("lin-manuel-miranda", 2), ("alex-lacamoire", 0)}
    assert [shots.count(shot) for shot in (0, 2)] == [2, 1] and 4 <= shots.count(3) <= 6
    assert watched.unknown == len(events) - sum(event.person is not None for event in events)


def crossing(step: int) -> np.ndarray:
    """Two people who walk past each other, one before the other, and grow; a third one stands; the camera pans."""
    page = np.full((360, 640, 3), (96, 104, 112), np.uint8)
    page += (np.indices((360, 640)).sum(axis=0)[..., None] // 16 % 8).astype(np.uint8)
    share = step / 59

    def paste(name: str, number: int, centre: float, top: int, side: int) -> None:
        with Image.open(sorted((LFW / name).iterdir())[number]) as photo:
            face = np.asarray(photo.convert("RGB").crop((55, 45, 195, 205)).resize((side, side * 8 // 7)))
        left, right = max(0, round(centre - side / 2)), min(640, round(centre + side / 2))
        cut = left - round(centre - side / 2)
        page[top : top + face.shape[0], left:right] = face[:, cut : cut + right - left]

    pan = round(20 * np.sin(2 * np.pi * share))
    paste("Halle_Berry", 0, 560 - pan, 10, 90)  # is not enrolled
    paste("Hans_Blix", 4, 540 - 440 * share - pan, 150, round(110 + 20 * share))
    paste("Jennifer_Garner", 4, 100 + 440 * share - pan, 160, round(120 + 30 * share))
    return page


def test_identities_are_kept_where_two_people_cross(gallery: Gallery, tmp_path: Path) -> None:
    film = write_film(tmp_path / "crossing.mkv", (crossing(step) for step in range(60)), rate=20)
    events: list[TrackEvent] = []
    watch(film, gallery, on_track=events.append)
    found = sorted((event.person or "", event.start, event.end) for event in events)
    assert [person for person, _, _ in found] == ["", "Hans_Blix", "Jennifer_Garner"]
    assert all(start <= 0.1 and end >= 2.85 for _, start, end in found)
