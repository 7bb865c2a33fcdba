"""Labelled pictures judged by every pair and by search: the numbers are those of the embeddings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from facewright.embedding import Embedder
from facewright.errors import DataError
from facewright.evaluation.identification import IdentificationResult, identify
from facewright.evaluation.verification import verify_all_pairs
from facewright.workflows.verification import evaluate_identification, evaluate_verification
from fixtures.faces import draw_people, saved, small_bundle


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_people(tmp_path_factory.mktemp("photos"), people=6, photos=4)


def vectors(model: Path, photos: Path) -> tuple[np.ndarray, np.ndarray]:
    paths = sorted(photos.glob("*/*.png"))
    found = Embedder.load(model).of_files(paths)
    return np.stack([one.vector for one in found if one.vector is not None]), np.array([p.parent.name for p in paths])


def test_every_pair_of_people_who_are_no_classes(photos: Path, tmp_path: Path) -> None:
    model = saved(tmp_path)
    found = evaluate_verification(model, photos)
    expected = verify_all_pairs(*vectors(model, photos))
    assert (found.result.genuine, found.result.impostors) == (6 * 6, 15 * 16)
    assert found.result.auc == pytest.approx(expected.auc, abs=1e-3)
    printed = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (printed["task"], printed["images"], printed["data"]) == ("verification", 24, str(photos))


def test_search_with_a_seeded_gallery(photos: Path, tmp_path: Path) -> None:
    model = saved(tmp_path, small_bundle(()))
    found = evaluate_identification(model, photos, seed=3)
    expected = identify(*vectors(model, photos), 3)
    assert isinstance(found.result, IdentificationResult)
    assert found.result.cmc == expected.cmc
    assert found.result.seed == 3 and found.result.identities == 4
    assert found.to_dict()["task"] == "identification"
    again = evaluate_identification(model, photos, seed=3)
    assert again == found


def test_identities_count_before_classes(photos: Path, tmp_path: Path) -> None:
    rows = [f"person_0{p}/{i}.png,{'smiling' if i % 2 else 'grave'},p{p}" for p in range(6) for i in range(4)]
    table = photos / "moods.csv"
    model = saved(tmp_path)
    by_class = evaluate_verification(model, photos)
    table.write_text("path,label,identity\n" + "\n".join(rows) + "\n")
    by_identity = evaluate_verification(model, table)
    table.unlink()  # beside the folders it would ask which of the two counts
    assert by_identity.result == by_class.result


def test_who_is_shown_must_be_known(tmp_path: Path) -> None:
    flat = draw_people(tmp_path / "own", 1, 3) / "person_00"
    with pytest.raises(DataError):
        evaluate_verification(saved(tmp_path), flat)
