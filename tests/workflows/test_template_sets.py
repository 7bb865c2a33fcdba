"""IJB's protocols on a small set of templates, against a direct computation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from facewright import benchmark
from facewright.cli.main import main
from facewright.embedding import Embedder
from facewright.evaluation import identification as evaluated
from facewright.faces.alignment import ARCFACE, align_face
from facewright.images import read
from facewright.metrics.verification import roc, tar_at_far
from fixtures.faces import draw_people, saved

PEOPLE, PHOTOS = 8, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two templates a person, of three and two photos; people 0 to 3 in one gallery, 4 to 6 in the other."""
    root = tmp_path_factory.mktemp("ijb") / "small"
    draw_people(root / "images", PEOPLE, PHOTOS)
    rows = [
        f"{10 * person + part},p{person},{person}-{photo // 2},person_{person:02d}/{photo}.png"
        for person in range(PEOPLE)
        for part, photos in ((1, (0, 1, 2)), (2, (3, 4)))
        for photo in photos
    ]
    rows += ["100,p0,x,person_00/absent.png", "72,p7,y,broken.png"]
    (root / "images/broken.png").write_bytes(b"no image")
    (root / "templates.csv").write_text("template_id,subject_id,media_id,filename\n" + "\n".join(rows) + "\n")
    ids = [10 * person + part for person in range(PEOPLE) for part in (1, 2)]
    pairs = [f"{a},{b}" for place, a in enumerate(ids) for b in ids[place + 1 :]] + ["100,2"]
    (root / "pairs.csv").write_text("\n".join(pairs) + "\n")
    for name, people in (("gallery_G1", range(4)), ("gallery_G2", range(4, 7))):
        (root / f"{name}.csv").write_text("template_id\n" + "".join(f"{10 * one + 1}\n" for one in people))
    (root / "probes.csv").write_text("template_id\n" + "".join(f"{10 * one + 2}\n" for one in range(PEOPLE)))
    return root


def direct(folder: Path, model: Path) -> dict[int, np.ndarray]:
    """The template vectors by loops."""
    embedder = Embedder.load(str(model), flip=True)

    def of(person: int, photo: int) -> np.ndarray:
        return embedder.embed(read(folder / f"images/person_{person:02d}/{photo}.png")[None])[0].astype(float)

    vectors = {}
    for person in range(PEOPLE):
        for part, media in ((1, [[0, 1], [2]]), (2, [[3], [4]])):
            mean = np.mean([np.mean([of(person, photo) for photo in one], axis=0) for one in media], axis=0)
            vectors[10 * person + part] = mean / np.linalg.norm(mean)
    return vectors


def test_templates_are_those_of_a_direct_computation(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluated, "_BLOCK", 7)
    model = saved(tmp_path)
    (row,) = benchmark([model], [folder]).templates
    vectors = direct(folder, model)
    ids = sorted(vectors)
    scores = {(a, b): vectors[a] @ vectors[b] for place, a in enumerate(ids) for b in ids[place + 1 :]}
    genuine = [score for (a, b), score in scores.items() if a // 10 == b // 10]
    impostor = [score for (a, b), score in scores.items() if a // 10 != b // 10]
    found = row.result
    assert (row.images, row.failures) == (PEOPLE * 5 + 2, 2)
    assert (found.templates, found.without_image, found.genuine, found.impostors) == (17, 1, 9, len(impostor))
    curve = roc([*genuine, 0.0], impostor)  # the template without an image has the score 0
    for one in found.tar_at_far:
        expected = tar_at_far(curve, one.far)
        assert (one.achieved_interval, one.tar) == (expected.far, expected.tar)
    assert [one.far for one in found.tar_at_far] == [0.1, 0.01]

    for search, people in zip(found.searches, (range(4), range(4, 7)), strict=True):
        ranked = {
            probe: sorted(people, key=lambda one: -vectors[10 * probe + 2] @ vectors[10 * one + 1])
            for probe in range(PEOPLE)
        }
        first = [ranked[probe][0] == probe for probe in people]
        assert search.rank1 is not None and search.rank1.value == np.mean(first)
        assert (search.identities, search.mated, search.nonmated) == (len(people), len(people), PEOPLE - len(people))
    assert found.searches[0].open_set == ()  # four non-mated probes do not resolve 10 %


def test_insightfaces_folder_as_it_comes_is_cut_by_its_points(tmp_path: Path) -> None:
    draws, root = np.random.default_rng(2), tmp_path / "IJBC"
    draw_people(root / "loose_crop", PEOPLE, 4, size=60)
    (root / "meta").mkdir()
    for place, path in enumerate(sorted(root.glob("loose_crop/*/*.png"))):
        path.rename(root / f"loose_crop/{place + 1}.png")
    points = np.array([[20, 22], [40, 23], [30, 34], [23, 44], [38, 45]]) + draws.normal(0, 2, (4 * PEOPLE, 5, 2))
    weights = draws.uniform(0.5, 1, 4 * PEOPLE).round(4)
    lists: dict[str, list[str]] = {"name_5pts_score": [], "face_tid_mid": [], "template_pair_label": []}
    for place in range(4 * PEOPLE):
        spots = " ".join(f"{value:.3f}" for value in points[place].ravel())
        lists["name_5pts_score"].append(f"{place + 1}.png {spots} {weights[place]}")
        lists["face_tid_mid"].append(f"{place + 1}.png {place // 2} {place // 2 if place % 4 < 2 else place}")
    count = 2 * PEOPLE  # templates of two images: of one media, or of two
    lists["template_pair_label"] = [f"{a} {b} {int(a // 2 == b // 2)}" for a in range(count) for b in range(a)]
    for name, lines in lists.items():
        (root / f"meta/ijbc_{name}.txt").write_text("\n".join(lines) + "\n")
    model = saved(tmp_path)
    (row,) = benchmark([model], [root], flip=False).templates
    embedder = Embedder.load(model)
    crops = [
        embedder.spec.fit(
            align_face(read(root / f"loose_crop/{place + 1}.png"), points[place].round(3), template=ARCFACE)
        )
        for place in range(4 * PEOPLE)
    ]
    weighted = embedder.embed(np.stack(crops)).astype(float) * weights[:, None]
    vectors = weighted.reshape(count, 2, -1).sum(axis=1)  # the mean over one media or over two is the same here
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [(vectors[a] @ vectors[b], a // 2 == b // 2) for a in range(count) for b in range(a)]
    curve = roc([score for score, same in pairs if same], [score for score, same in pairs if not same])
    assert row.faces == "given points" and (row.result.genuine, row.failures) == (PEOPLE, 0)
    for one in row.result.tar_at_far:
        assert one.tar == tar_at_far(curve, one.far).tar
    assert row.result.auc == pytest.approx(np.mean([a > b for a, x in pairs if x for b, y in pairs if not y]), abs=1e-9)
    assert benchmark([model], [root], flip=False, detector="none").templates[0].faces == "none"


def test_the_command_prints_a_set_of_templates(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", str(saved(tmp_path)), str(folder), "--quiet"]) == 0
    assert "gallery_G2" in capsys.readouterr().out
    assert main(["benchmark", str(saved(tmp_path)), str(folder), "--quiet", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["templates"][0]["result"]["searches"]) == 2
