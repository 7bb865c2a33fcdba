"""Lists of pairs and verification sets, measured."""

import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest

from facewright import benchmark, pairs
from facewright.errors import BundleError, DataError, UsageError
from facewright.metrics.intervals import Rate
from facewright.recognition import Recognizer
from facewright.workflows import verification as group_tables
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


def test_rates_by_group_at_one_threshold_for_all(
    both_forms: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_tables, "_FAR", 0.1)  # which 12 impostor pairs resolve
    root, table, _ = both_forms
    group = {f"person_{p:02d}": "a" if p < 3 else "b" for p in range(6)}
    rows = [f"{path.parent.name}/{path.name},{group[path.parent.name]}" for path in sorted(root.glob("*/*.png"))]
    attributes = tmp_path / "groups.csv"
    attributes.write_text("\n".join(["path,hat", *rows[:-1]]) + "\n")  # the last image: unknown
    measured = pairs(saved(tmp_path), table, root, by="hat", attributes=attributes, out=tmp_path / "page")
    found, listed = measured.subgroups, measured.scored.pairs
    assert found is not None and [row.group for row in found.groups] == ["a", "b"]
    for row in found.groups:
        mine = [
            i
            for i, (a, b) in enumerate(zip(listed.a, listed.b, strict=True))
            if "person_05/3.png" not in (a, b) and group[a[:9]] == group[b[:9]] == row.group
        ]
        accepted = [bool(measured.scored.scores[i] >= found.threshold) for i in mine]
        impostors = [yes for i, yes in zip(mine, accepted, strict=True) if not listed.same[i]]
        genuine = [yes for i, yes in zip(mine, accepted, strict=True) if listed.same[i]]
        assert row.fmr is not None and (row.fmr.n, row.fmr.value) == (len(impostors), sum(impostors) / len(impostors))
        assert row.fnmr is not None and (row.fnmr.n, row.fnmr.value) == (
            len(genuine),
            genuine.count(False) / len(genuine),
        )
    assert found.unknown == sum("person_05/3.png" in pair for pair in zip(listed.a, listed.b, strict=True)) > 0
    in_rows = sum(row.fmr.n + row.fnmr.n for row in found.groups if row.fmr and row.fnmr)
    assert found.across + found.unknown + in_rows == len(listed)
    assert "By hat" in (tmp_path / "page/report.html").read_text()
    with pytest.raises(DataError, match="shoe"):
        pairs(saved(tmp_path), table, root, by="shoe", attributes=attributes)


def test_ratios_and_limits_of_groups() -> None:
    from facewright.evaluation.subgroups import rates_by_group

    scores, same = [0.9, 0.9, 0.1, 0.9, 0.1, 0.1, 0.9, 0.9], [False] * 6 + [True] * 2
    groups = [("a", "a")] * 3 + [("b", "b")] * 3 + [("a", "a"), ("a", "b")]
    found = rates_by_group(scores, same, groups, 0.5, "hat", "given")
    assert found.fmr_ratio == 2.0 and found.fnmr_ratio is None and (found.across, found.unknown) == (1, 0)
    assert any("FNMR of b" in line for line in found.limits) and any("overlap" in line for line in found.limits)


def test_a_model_that_cannot_add_the_mirrored_image_is_measured_without(
    both_forms: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Recognizer.load

    def without_flip(model: str | Path | None, *, flip: bool | None = None, **settings: str | None) -> Recognizer:
        if flip:
            raise UsageError("no flip")
        return load(model, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(Recognizer, "load", without_flip)
    told: list[object] = []
    result = benchmark([saved(tmp_path)], [both_forms[2]], on_event=told.append)
    assert result.rows[0].pairs == 24 and any("mirrored" in str(event) for event in told)
