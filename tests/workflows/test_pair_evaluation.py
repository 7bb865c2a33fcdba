"""Lists of pairs and verification sets, measured."""

import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest

from facewright.errors import BundleError, DataError
from facewright.metrics.intervals import Rate
from facewright.workflows import benchmark, pairs
from facewright.workflows.pair_evaluation import _about_halves
from fixtures.faces import draw_people, saved


def test_pairs_across_the_halves_are_said():
    def notes(fold, n):
        scored = SimpleNamespace(pairs=type("Pairs", (), {"fold": fold, "__len__": lambda self: 120})())
        return _about_halves(scored, SimpleNamespace(accuracy=n and Rate(value=0.9, low=0.8, high=0.95, n=n)))

    (note,) = notes(None, 89)
    assert "31 of 120" in note and "89" in note
    assert notes(None, 120) == notes([0], 89) == notes(None, None) == []


@pytest.fixture(scope="module")
def both_forms(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Folder of images, table of pairs, and the same pairs in a .bin."""
    folder = tmp_path_factory.mktemp("sets")
    root = draw_people(folder / "images", people=6, photos=4)
    listed = [
        (f"person_{p:02d}/{a}.png", f"person_{q:02d}/{b}.png", p == q)
        for p in range(6)
        for a, b, q in ((0, 1, p), (1, 2, (p + 1) % 6), (2, 3, p), (3, 0, (p + 2) % 6))
    ]
    sizes = [3, 3, 3, 3, 2, 2, 2, 2, 2, 2]
    folds = [fold for fold, size in enumerate(sizes) for _ in range(size)]
    rows = [f"{a},{b},{int(same)},{fold}" for (a, b, same), fold in zip(listed, folds, strict=True)]
    (folder / "table.csv").write_text("\n".join(["a,b,same,fold", *rows]) + "\n")
    images = [(root / name).read_bytes() for a, b, _ in listed for name in (a, b)]
    (folder / "set.bin").write_bytes(pickle.dumps((images, [same for *_, same in listed])))
    return root, folder / "table.csv", folder / "set.bin"


def test_a_bin_and_a_list_of_the_same_pairs_give_the_same_numbers(
    both_forms: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    root, table, packed = both_forms
    model = saved(tmp_path)
    result = benchmark([model], [f"{table}:{root}", packed])
    first, second = result.rows
    assert first.replace(set="") == second.replace(set="") and (first.set, second.set) == ("table", "set")
    direct = pairs(model, table, root, flip=True).result
    assert direct.folds is not None
    assert (first.mean_accuracy, first.standard_error) == (direct.folds.mean, direct.folds.standard_error)
    assert (first.eer, first.pairs, first.accuracy) == (direct.eer, 24, direct.accuracy)
    assert benchmark([model], [packed], flip=False).rows[0].fingerprint != second.fingerprint


def test_a_wrong_model_or_set_is_told_before_anything_is_measured(
    both_forms: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    *_, packed = both_forms
    with pytest.raises(BundleError):
        benchmark([saved(tmp_path), tmp_path / "none.onnx"], [packed])
    with pytest.raises(DataError, match="none"):
        benchmark([saved(tmp_path)], [packed, tmp_path / "none.bin"])
