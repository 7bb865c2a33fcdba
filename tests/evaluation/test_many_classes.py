"""Very many classes: the same numbers as of few, without a score of each class of each image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facewright.errors import DataError, RunError
from facewright.evaluation import classification
from facewright.evaluation.classification import ClassificationResult, Predictions, Ranked, classify, keeps_scores
from facewright.evaluation.compare import hardest, most_confused
from facewright.metrics import classification as metrics
from facewright.metrics import intervals
from facewright.runs import read_predictions, write_predictions

CLASSES = 30
NAMES = (*(f"person {number:02}" for number in range(CLASSES - 1)), "=cmd")  # a cell that would be a formula


def said(images: int = 90) -> Predictions:
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES - 5, images)  # five classes have no image
    scores = random.random((images, CLASSES)).round(1) + 0.9 * (np.arange(CLASSES) == labels[:, None])
    paths = tuple(f"{number}.jpg" for number in range(images))
    return Predictions(paths, labels, scores / scores.sum(axis=1, keepdims=True))


def without_scores(predictions: Predictions) -> Predictions:
    return Predictions(predictions.paths, predictions.labels, None, predictions.ranked)


def test_what_is_kept_of_an_image_is_what_sorting_all_its_scores_gives() -> None:
    whole = said()
    assert whole.probabilities is not None
    for row, scores in enumerate(whole.probabilities):
        order = sorted(range(CLASSES), key=lambda place: -scores[place])
        own = scores[whole.labels[row]]
        assert whole.ranked.top[row].tolist() == order[:5]
        assert whole.ranked.probabilities[row].tolist() == scores[order[:5]].tolist()
        assert whole.ranked.of_truth[row] == own and whole.ranked.rank[row] == sum(other >= own for other in scores)
    few = Predictions(whole.paths[:2], np.array([0, 1]), np.array([[0.5, 0.5], [0.1, 0.9]]))
    assert few.ranked.top.tolist() == [[0, 1], [1, 0]] and few.ranked.rank.tolist() == [2, 1]


def test_parts_of_the_images_joined_are_the_whole() -> None:
    whole = said()
    assert whole.probabilities is not None
    parts = [Ranked.of(whole.labels[a : a + 40], whole.probabilities[a : a + 40]) for a in (0, 40, 80)]
    for name in ("top", "probabilities", "of_truth", "rank"):
        assert np.array_equal(getattr(Ranked.joined(parts), name), getattr(whole.ranked, name))


def test_every_number_but_the_areas_is_the_same_without_the_scores() -> None:
    whole, found = (classify(one, NAMES, "test") for one in (said(), without_scores(said())))
    areas = {"macro_auc": None, "micro_auc": None, "macro_average_precision": None}
    rows = tuple(row.replace(auc=None, average_precision=None) for row in whole.per_class)
    assert found == whole.replace(**areas, per_class=rows, scores_kept=False)
    assert hardest(said(), 5).tolist() == hardest(without_scores(said()), 5).tolist()


def test_mistakes_stand_in_for_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = classify(said(), NAMES, "test")
    monkeypatch.setattr(classification, "MATRIX", 10)
    found = classify(said(), NAMES, "test")
    assert whole.confusion is not None and found.confusion is None and found.mistakes is not None
    counts = {(one.true, one.predicted): one.count for one in found.mistakes}
    assert counts == {
        (NAMES[i], NAMES[j]): n for i, row in enumerate(whole.confusion) for j, n in enumerate(row) if i != j and n
    }
    assert most_confused(found, 8) == most_confused(whole, 8)
    assert ClassificationResult.model_validate_json(found.model_dump_json()) == found


def test_the_table_of_very_many_classes_holds_those_with_the_most_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = classify(said(), NAMES, "test")
    assert whole.classes_with_images is None
    monkeypatch.setattr(classification, "ROWS", 4)
    found = classify(said(), NAMES, "test")
    labels, guessed = said().labels, said().predicted
    wrong = [((labels == c) ^ (guessed == c)).sum() for c in range(CLASSES)]
    kept = sorted(sorted(range(CLASSES), key=lambda c: -wrong[c])[:4])
    assert found.per_class == tuple(whole.per_class[c] for c in kept)
    assert found.classes_with_images == len(set(labels.tolist())) == 24
    assert any("24 of 30 classes" in note for note in found.notes)
    assert found.macro_f1 == whole.macro_f1


def test_resamples_drawn_in_blocks_are_of_the_same_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, guessed = said(400).labels, said(400).predicted
    macro = (metrics.macro_precision, metrics.macro_recall, metrics.macro_f1)
    whole = intervals.bootstraps(macro, labels, guessed, CLASSES)
    assert whole == tuple(intervals.bootstraps((one,), labels, guessed, CLASSES)[0] for one in macro)
    other = np.where(np.arange(400) % 7, guessed, labels)
    paired = intervals.paired_bootstrap(metrics.macro_f1, labels, (guessed, other), CLASSES)
    monkeypatch.setattr(intervals, "CELLS", 40_000)
    for one, blocks in zip(whole, intervals.bootstraps(macro, labels, guessed, CLASSES), strict=True):
        assert blocks.value == one.value and blocks != one
        assert (blocks.low, blocks.high) == pytest.approx((one.low, one.high), abs=0.006)
    found = intervals.paired_bootstrap(metrics.macro_f1, labels, (guessed, other), CLASSES)
    assert found.value == paired.value
    assert (found.low, found.high) == pytest.approx((paired.low, paired.high), abs=0.006)


def test_predictions_come_back_from_a_table_without_a_column_a_class(tmp_path: Path) -> None:
    path, whole = tmp_path / "predictions.csv", without_scores(said())
    write_predictions(path, whole, NAMES)
    header = path.read_text().splitlines()[0].split(",")
    assert header[:6] == ["path", "label", "predicted", "probability", "label_probability", "label_rank"]
    assert len(header) == 6 + 2 * 4
    back = read_predictions(path, NAMES)
    assert back.paths == whole.paths and np.array_equal(back.labels, whole.labels) and back.probabilities is None
    for name in ("top", "probabilities", "of_truth", "rank"):
        assert np.array_equal(getattr(back.ranked, name), getattr(whole.ranked, name))
    text = path.read_text()
    for damaged in (text.rpartition(",")[0], text.replace("person 03", "nobody"), text.replace("0.0", "x"), "", "a,b"):
        path.write_text(damaged)
        with pytest.raises(RunError, match="no table of predictions"):
            read_predictions(path, NAMES)


def test_a_probability_above_one_is_refused() -> None:
    kept = said().ranked
    broken = Ranked(kept.top, kept.probabilities * 30, kept.of_truth, kept.rank)
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        classify(Predictions(said().paths, said().labels, None, broken), NAMES, "test")


@pytest.mark.parametrize(
    ("images", "classes", "kept"), [(10**9, 20, True), (10**6, 20, True), (20_000, 1_000, True), (20_001, 1_000, False)]
)
def test_scores_are_kept_of_few_classes_or_few_images(images: int, classes: int, kept: bool) -> None:
    assert keeps_scores(images, classes) is kept
