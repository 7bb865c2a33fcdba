"""`gallery enroll NAME clip.mp4`: the best frames of a film."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from facewright.cli.main import main
from facewright.gallery.gallery import Gallery
from fixtures.faces import draw_people, saved
from fixtures.films import beside, write_film
from fixtures.tiles import stand_in

pytest.importorskip("av")


def test_the_best_frames_of_a_film_are_enrolled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch)
    sharp = draw_people(tmp_path / "photos", people=2, photos=1) / "person_00/0.png"
    with Image.open(sharp) as image:
        image.filter(ImageFilter.GaussianBlur(3)).save(tmp_path / "blurred.png")
    frames = [beside(tmp_path / "blurred.png")] * 40
    for number in (3, 12, 18, 30):  # of every third one
        frames[number] = beside(sharp)
    film = write_film(tmp_path / "ann.mkv", frames)
    place, model = tmp_path / "g.gallery", saved(tmp_path)
    words = ["gallery", "enroll", "-g", str(place), "-m", str(model), "--detector", "dlib", "-q"]
    assert main([*words, "Ann", str(film)]) == 0
    with Gallery.open(place) as gallery:
        entries = [row.entry for row in gallery.store.rows(["Ann"])]
        names = sorted(Path(entry.photo).name for entry in entries)
        assert {"ann.mkv@0.30s", "ann.mkv@1.20s", "ann.mkv@1.80s", "ann.mkv@3.00s"} & set(names) and len(names) <= 5
        scores = np.stack([entry.vector for entry in entries]) @ entries[0].vector
        assert (scores > 0.99).sum() >= 1
        assert gallery.search([sharp])[0].matches[0].score == pytest.approx(1, abs=1e-5)
    capsys.readouterr()
    nobody = write_film(tmp_path / "nobody.mkv", [beside()] * 3)
    two = write_film(tmp_path / "two.mkv", [beside(sharp, sharp)] * 3)
    (tmp_path / "text.mp4").write_text("no film")
    many = [str(nobody), str(two), str(tmp_path / "text.mp4"), str(tmp_path / "none.mp4")]
    assert main([*words, "--select-face", "error", "Bo", *many]) == 1
    said = capsys.readouterr().err
    assert f"left out: {nobody}: no face" in said and f"left out: {two}: several faces" in said
    assert "text.mp4: cannot be opened" in said and "none.mp4" in said
