"""Faces of photos, one of several, and two photos compared; the networks stand in, then are the real ones."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import facewright as fw
from facewright import images, recognition
from facewright.data.sources import open_dataset
from facewright.errors import BadImage, Undefined, UnknownName, UsageError, WeightsError
from facewright.faces.dlib import files as dlib_files
from facewright.faces.selection import Face, Picked, ScoreLimits, select_turned
from facewright.gallery.results import Photo, embed_photos
from facewright.recognition import Recognizer
from facewright.recognition.networks import Matched
from facewright.training.recipe_parts import Input

PHOTOS = Path(__file__).parents[3] / "shared/data"
NOSE = [[0.7, 0.4], [0.6, 0.4], [0.3, 0.4], [0.4, 0.4], [0.5, 0.6]]  # five points in shares of a box
needs_networks = pytest.mark.skipif(
    find_spec(dlib_files.PACKAGE) is None,
    reason="needs face_recognition_models: pip install face_recognition_models",
)


class FakeDetector:
    """Finds given boxes, those that are as large as what it is asked for."""

    def __init__(self, *boxes: tuple[float, float, float, float]) -> None:
        self.boxes, self.asked = np.array(boxes, np.float64).reshape(-1, 4), list[float]()

    def find(self, photo: np.ndarray, *, smallest: float) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append(smallest)
        found = self.boxes[self.boxes[:, 2] >= smallest]
        return found, np.linspace(2.0, 1.5, len(found))


class FakePoints:
    def of(self, photo: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.asarray(boxes[:, None, :2] + np.array(NOSE) * boxes[:, None, 2:])


def with_faces(*boxes: tuple[float, float, float, float], detector: str = "dlib") -> tuple[Recognizer, FakeDetector]:
    recognizer, finder = Recognizer(detector=detector), FakeDetector(*boxes)
    vars(recognizer).update(_points=FakePoints())
    vars(recognizer._detector).update(find=lambda photo, smallest: (*finder.find(photo, smallest=smallest), None))
    return recognizer, finder


BLANK = np.full((400, 600, 3), 200, np.uint8)
LEFT, MIDDLE, SMALL = (10.0, 10.0, 120.0, 120.0), (260.0, 150.0, 90.0, 90.0), (200.0, 200.0, 45.0, 45.0)


@pytest.mark.parametrize(
    ("boxes", "select_face", "taken", "faces", "asked"),
    [
        ((LEFT, MIDDLE, SMALL), "largest", LEFT, 2, [80]),
        ((LEFT, MIDDLE, SMALL), "centre", MIDDLE, 2, [80]),
        ((LEFT, MIDDLE), "error", None, 2, [40]),
        ((LEFT, SMALL), "error", None, 2, [40]),  # a small one counts
        ((LEFT,), "error", LEFT, 1, [40]),
        ((SMALL,), "largest", SMALL, 1, [80, 40]),
        ((), "centre", None, 0, [80, 40, 20, *(3 * [80, 40])]),  # then turned by 90, 180 and 270 degrees
    ],
)
def test_one_of_several(
    boxes: tuple[tuple[float, float, float, float], ...], select_face: recognition.SelectFace, taken: object,
    faces: int, asked: list[float],
) -> None:  # fmt: skip
    recognizer, finder = with_faces(*boxes)
    picked = recognizer.pick(BLANK, select_face)
    assert (None if picked.face is None else picked.face.box, picked.faces) == (taken, faces)
    assert (picked.reason is None) is (taken is not None) and finder.asked == asked
    assert (picked.said is not None) is (taken is not None and faces > 1)
    if picked.said is not None:
        assert picked.said.startswith(f"{faces} faces; took the") and picked.select_face == select_face


def test_the_old_keyword_works_with_a_warning_and_both_spellings_mean_the_same() -> None:
    recognizer, _ = with_faces(LEFT, MIDDLE)
    with pytest.warns(FutureWarning, match="select_face"):
        old = recognizer.pick(BLANK, policy="largest")  # type: ignore[call-arg]
    assert old.face is not None and old.face.box == LEFT
    for spelling in ("center", "centre"):
        picked = recognizer.pick(BLANK, spelling)
        assert picked.face is not None and picked.face.box == MIDDLE and picked.select_face == "centre"
    assert Input(select_face="center") == Input()


def test_the_old_method_works_with_a_warning() -> None:
    recognizer, crops = Recognizer(), [np.zeros((150, 150, 3), np.uint8)] * 2
    vars(recognizer).update(_network=SimpleNamespace(embed=lambda given: len(given)))
    with pytest.warns(FutureWarning, match="embed_crops"):
        assert recognizer.embed_chips(crops) == recognizer.embed_crops(crops) == 2


def test_small_faces_only_where_there_are_no_others() -> None:
    tiny = (200.0, 200.0, 25.0, 25.0)
    for boxes, wanted, asked in [((tiny, SMALL), 1, [39]), ((tiny,), 1, [39, 20]), ((), 0, [39, 20, 39, 39, 39])]:
        recognizer, finder = with_faces(*boxes)
        assert len(recognizer.faces(BLANK)) == wanted and finder.asked == asked
    recognizer, finder = with_faces(tiny, SMALL)
    assert len(recognizer.faces(BLANK, smallest=20)) == 2 and finder.asked == [20]


def test_a_large_photo_is_searched_as_far_as_memory_allows() -> None:
    large = np.zeros((3000, 4000, 3), np.uint8)
    recognizer, finder = with_faces()
    asked = [(large, 40), (large, 200), (BLANK, 40)]
    assert [recognizer._detector.searchable(photo, size) for photo, size in asked] == [139, 200, 40]
    assert recognizer.search(large) == ((), 57)  # where nothing is found at once, parts are searched
    assert finder.asked[:2] == 2 * [139] and finder.asked[-3:] == 3 * [139] and set(finder.asked[2:-3]) == {57}
    assert recognizer.search(large, smallest=150) == ((), None) and recognizer.search(BLANK) == ((), None)
    reasons = {photo.shape[0]: recognizer.pick(photo).reason or "" for photo in (large, BLANK)}
    assert "57 px" in reasons[3000] and "px" not in reasons[400]


def test_cropped_photos_are_their_own_face() -> None:
    recognizer, finder = with_faces(detector="none")
    (face,) = recognizer.faces(BLANK, template=recognition.TEMPLATES["arcface"])
    assert face.box == (0, 0, 600, 400) and face.score is None and face.chip.shape == (112, 112, 3)
    assert finder.asked == [] and recognizer.faces(BLANK[:19]) == ()


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda r: r.faces(BLANK, smallest=7), UsageError, "8 px, got 7"),
        (lambda r: r.pick(BLANK, "first"), UnknownName, "unknown select_face 'first'"),
        (lambda r: Recognizer(detector="haar"), UnknownName, "unknown detector 'haar'"),
    ],
)
def test_refused(wrong: object, error: type[Exception], says: str) -> None:
    recognizer, _ = with_faces(LEFT)
    with pytest.raises(error, match=says):
        wrong(recognizer)  # type: ignore[operator]


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dlib_files, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"pip install"):
        Recognizer().faces(BLANK)


@needs_networks
def test_the_shipped_threshold_is_for_the_shipped_networks() -> None:
    held = Recognizer().thresholds()
    assert Recognizer(detector="none").thresholds() == ()  # those of other networks are left out
    assert [one.far_target for one in held] == [0.001, 0.01]
    for one in held:
        assert one.impostors == one.genuine == 1100 and one.far.value <= one.far_target
        assert one.detector == "dlib" and one.histograms is not None
        assert sum(one.histograms.genuine) == sum(one.histograms.impostor) == 1100
    assert Recognizer(detector="none").fingerprint != Recognizer().fingerprint  # chosen with the detector


@needs_networks
def test_no_face_is_an_answer(tmp_path: Path) -> None:
    Image.fromarray(BLANK[:100, :100]).save(tmp_path / "blank.png")
    recognizer = fw.Recognizer()
    assert recognizer.faces(BLANK[:100, :100]) == ()
    vector, picked = recognizer.vector(BLANK[:100, :100])
    assert vector is None and picked.reason == "no face was found"
    found = recognizer.verify(tmp_path / "blank.png", tmp_path / "blank.png")
    assert found.score is found.same is found.probability is None and found.to_dict()["a"]["faces"] == 0
    with pytest.raises(BadImage, match="absent"):
        recognizer.verify(tmp_path / "absent.png", tmp_path / "blank.png")
    with pytest.raises(Undefined, match=r"rate of 0\.5"):
        recognizer.verify(tmp_path / "blank.png", tmp_path / "blank.png", far=0.5)


def found_at(*scores: float) -> Recognizer:
    """Find one face, LEFT, in a photo with its corner at the top left, with the scores of the calls."""
    recognizer, _ = with_faces()
    left = list(scores)

    def find(photo: np.ndarray, smallest: float) -> tuple[np.ndarray, np.ndarray, None]:
        return np.array([LEFT]), np.array([left.pop(0)]), None

    vars(recognizer._detector).update(find=find)
    return recognizer


def test_a_low_score_is_compared_with_those_of_the_turned_photo() -> None:
    assert found_at(1.05).pick(BLANK).turned == 0  # not turned at all
    roll = found_at(1.05).pick(BLANK).face
    assert roll is not None and roll.roll == pytest.approx(0, abs=0.2)
    picked = found_at(0.8, 0.3, 1.1, 0.7).pick(BLANK)
    assert (picked.turned, picked.reason) == (180, None) and picked.said is not None and "180" in picked.said
    assert picked.face is not None and picked.face.box == (600 - 10 - 120, 400 - 10 - 120, 120, 120)
    assert found_at(0.8, 0.3, 0.7, 0.7).pick(BLANK).turned == 0  # the highest score, low as it is


def test_below_the_measured_score_there_is_no_decision() -> None:
    picked = found_at(0.31, 0.8, 0.1, 0.1).pick(BLANK)
    assert picked.face is None and picked.faces == 1 and picked.reason is not None
    assert picked.reason.startswith("not sure") and "0.31" in picked.reason and "0.6" in picked.reason
    sides = found_at(0.31, 0.8, 0.1, 0.1).vector(BLANK), (np.ones(128, np.float32), picked)
    result = Recognizer(detector="none").match(*sides, None)
    assert result.same is result.probability is result.score is None
    (enrolled,) = embed_photos(found_at(0.31, 0.8, 0.1, 0.1), [Photo("a.png", BLANK, "Ann")])
    assert isinstance(enrolled, str) and "not sure" in enrolled


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_face_in_a_turned_photo_is_where_it_is_in_the_photo(quarters: int) -> None:
    photo = np.zeros((60, 100, 3), np.uint8)
    photo[20:40, 70:75] = 255
    photo[20, 70] = 128  # the marked corner

    def select(turned: np.ndarray) -> Picked:
        (rows, columns), marked = np.nonzero(turned[..., 0]), np.argwhere(turned[..., 0] == 128)[:, ::-1]
        box = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
        score = 1.0 if np.array_equal(turned, np.rot90(photo, quarters)) else 0.1
        return Picked(Face(box, score, marked.astype(float), turned), 1, "centre", None)

    picked = select_turned(select(photo), photo, ScoreLimits(2.0, 0.5), select)
    assert picked.face is not None and picked.turned == 90 * quarters
    assert picked.face.box == (70, 20, 5, 20) and picked.face.points.tolist() == [[70, 20]]


@needs_networks
def test_a_synthetic_face_in_four_orientations() -> None:
    recognizer, right = Recognizer(), 0
    data = open_dataset("synthetic:faces?identities=10&images=1&size=160&seed=1")
    for person in (4, 7):
        photo = data.source.read(data.records[person], None)
        upright = recognizer.vector(photo)
        assert upright[1].face is not None
        for quarters in range(4):
            turned = np.ascontiguousarray(np.rot90(photo, quarters))
            result = recognizer.match(upright, recognizer.vector(turned), recognizer.threshold())
            assert result.same is not False  # the same face, or no decision
            right += result.same is True
    assert right >= 7


@needs_networks
def test_every_face_of_a_turned_photo_is_found_upright() -> None:
    recognizer = Recognizer()
    data = open_dataset("synthetic:faces?identities=10&images=1&size=160&seed=1")
    photo = np.concatenate([data.source.read(data.records[person], None) for person in (4, 7)], axis=1)
    upright = recognizer.faces(photo)
    assert len(upright) == 2
    for quarters in (1, 2, 3):
        turned = recognizer.faces(np.ascontiguousarray(np.rot90(photo, quarters)))
        assert len(turned) == 2
        similar = recognizer.embed(upright) @ recognizer.embed(turned).T
        assert sorted(similar.argmax(axis=1)) == [0, 1] and similar.max(axis=1).min() > 0.95
        areas = [face.box[2] * face.box[3] for face in turned]
        inside = [0 <= face.box[0] + face.box[2] / 2 <= (320, 160)[quarters % 2] for face in turned]
        assert all(inside) and min(areas) > 3000


def lfw(name: str, number: int) -> Path:
    path = PHOTOS / f"lfw_view1_train/images/{name}/{name}_{number:04d}.jpg"
    if not path.is_file():
        pytest.skip("needs ../shared/data/lfw_view1_train")
    return path


@needs_networks
@pytest.mark.realdata
def test_twenty_photos_in_four_orientations() -> None:
    lfw("Aaron_Peirsol", 1)
    folders = [one for one in sorted((PHOTOS / "lfw_view1_train/images").iterdir()) if len(list(one.iterdir())) > 1]
    recognizer, wrong = Recognizer(), 0
    for one, other in (sorted(folder.iterdir())[:2] for folder in folders[:20]):
        photo, reference = recognizer.read(one), recognizer.vector(recognizer.read(other))
        answers = [
            recognizer.match(recognizer.vector(np.ascontiguousarray(np.rot90(photo, quarters))), reference,
                             recognizer.threshold()).same
            for quarters in range(4)
        ]  # fmt: skip
        assert answers[0] is True, one.name
        wrong += answers[1:].count(False)  # "not sure" is no answer
    assert wrong <= 1, "of 60 turned photos; one scores as high as an upright one"


@pytest.mark.parametrize(
    ("same", "probability", "verdict"),
    [
        (None, None, None), (True, None, "match"), (False, None, "no match"), (True, 0.97, "match"),
        (True, 0.5, "match"), (False, 0.01, "no match"), (False, 0.55, "not sure"), (True, 0.3, "not sure"),
    ],
)  # fmt: skip
def test_the_verdict_agrees_with_the_probability(
    same: bool | None, probability: float | None, verdict: str | None
) -> None:
    side = Picked(None, 0, "error", "none")
    names = {"model": "m", "detector": "none", "fingerprint": ""}
    result = Matched(score=None, sides=(side, side), same=same, probability=probability, **names)
    assert (result.verdict or "").split(":")[0] == (verdict or "")
    assert result.to_dict()["verdict"] == result.verdict


@needs_networks
@pytest.mark.realdata
def test_people() -> None:
    recognizer = Recognizer()
    one = recognizer.verify(lfw("Aaron_Peirsol", 1), lfw("Aaron_Peirsol", 2))
    two = recognizer.verify(lfw("Aaron_Peirsol", 1), lfw("Aaron_Sorkin", 1))
    assert one.same is True and two.same is False
    assert one.probability is not None and two.probability is not None and one.probability > 0.9 > 0.1 > two.probability


@needs_networks
@pytest.mark.realdata
def test_upright_by_exif_and_two_in_one_photo(tmp_path: Path) -> None:
    recognizer, path = Recognizer(), lfw("Aaron_Peirsol", 1)
    upright = images.read(path)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it
    data = io.BytesIO()
    Image.fromarray(np.rot90(upright).copy()).save(data, "PNG", exif=exif)
    (face,), (turned,) = recognizer.faces(upright), recognizer.faces(images.read(data.getvalue()))
    assert face.box == turned.box and np.array_equal(face.chip, turned.chip)
    both = np.concatenate([upright, images.read(lfw("Aaron_Sorkin", 1))], axis=1)
    assert len(recognizer.faces(both)) == 2
    vector, picked = recognizer.vector(both, "error")
    assert vector is None and picked.reason == "2 faces were found where one was expected"
