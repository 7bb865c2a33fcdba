"""The streamed ROC is the exact one, bit for bit, however it is cut; and what is read from it is the same."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from facewright.errors import DataError, EmptyScores, UsageError
from facewright.metrics import streaming
from facewright.metrics.streaming import _Pairs, all_pairs, roc_pieces, summarise
from facewright.metrics.verification import Roc, auc, eer, operating_points, roc

ALL = 10**9


def unit(generator: np.random.Generator, n: int, d: int = 32) -> np.ndarray:
    vectors = generator.normal(size=(n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def signs(generator: np.random.Generator, n: int, d: int = 64) -> np.ndarray:
    """Unit vectors of +-1/8: every cosine is a multiple of 1/32, exact in any order of summation, and ties abound."""
    return (generator.integers(0, 2, (n, d)) * 2 - 1).astype(np.float32) / 8


def joined(embeddings, labels, held=ALL) -> Roc:
    pieces = list(roc_pieces(embeddings, labels, held))
    columns = ([getattr(piece, name) for piece in pieces] for name in ("thresholds", "false_accepts", "true_accepts"))
    return Roc(*(np.concatenate(column) for column in columns), pieces[0].impostors, pieces[0].genuine)


def collected(embeddings, labels) -> list[np.ndarray]:
    return [np.concatenate(side) for side in zip(*_Pairs.of(embeddings, labels).rows(), strict=True)]


def equal(a: Roc, b: Roc) -> bool:
    same = all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("thresholds", "false_accepts", "true_accepts"))
    return same and (a.impostors, a.genuine) == (b.impostors, b.genuine)


def test_a_million_pairs_bit_for_bit() -> None:
    generator = np.random.default_rng(0)
    embeddings, labels = unit(generator, 1415), generator.integers(0, 300, 1415)
    genuine, impostor = collected(embeddings, labels)
    assert genuine.size + impostor.size == 1_000_405
    curve = joined(embeddings, labels)
    assert equal(curve, roc(genuine, impostor))
    truth = np.arange(genuine.size + impostor.size) < genuine.size
    far, tar, thresholds = roc_curve(truth, np.concatenate([genuine, impostor]), drop_intermediate=False)
    assert np.array_equal(curve.far, far)
    assert np.array_equal(curve.tar, tar)
    assert np.array_equal(curve.thresholds, thresholds)


def test_the_scores_are_those_of_the_matrix() -> None:
    generator = np.random.default_rng(1)
    embeddings, labels = unit(generator, 700), generator.integers(0, 50, 700)
    upper = np.triu_indices(700, 1)
    scores, same = (embeddings @ embeddings.T)[upper], labels[upper[0]] == labels[upper[1]]
    for found, expected in zip(collected(embeddings, labels), (scores[same], scores[~same]), strict=True):
        assert np.abs(np.sort(found) - np.sort(expected)).max() < 5e-7


@pytest.mark.parametrize(
    ("held", "stretch", "tile"),
    [
        (ALL, 1 << 21, (512, 16_384)),
        (ALL, 100, (17, 29)),
        (1_000, 1, (16, 32)),
        (300, 77, (512, 29)),
        (1, 1 << 21, (90, 90)),  # a range for each distinct score
    ],
)
def test_however_it_is_cut(monkeypatch, held, stretch, tile) -> None:
    monkeypatch.setattr(streaming, "STRETCH", stretch)
    monkeypatch.setattr(streaming, "TILE", tile)
    generator = np.random.default_rng(2)
    embeddings, labels = signs(generator, 90), generator.choice(["al", "bo", "cy", "di", "ed"], 90)
    upper = np.triu_indices(90, 1)
    scores, same = (embeddings @ embeddings.T)[upper], labels[upper[0]] == labels[upper[1]]
    expected = roc(scores[same], scores[~same])
    assert equal(joined(embeddings, labels, held), expected)
    found, whole = all_pairs(embeddings, labels, held=held), summarise([expected])
    assert (found.auc, found.eer, found.points) == (auc(expected), eer(expected), operating_points(expected))
    assert equal(found.curve, whole.curve)


@pytest.mark.parametrize("held", [ALL, 20_000])
def test_scores_without_ties(monkeypatch, held) -> None:
    monkeypatch.setattr(streaming, "STRETCH", 5_000)
    generator = np.random.default_rng(3)
    centres = unit(generator, 40)
    embeddings = centres[np.arange(400) % 40] + 0.6 * unit(generator, 400)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    labels = np.arange(400) % 40
    expected = roc(*collected(embeddings, labels))
    found = all_pairs(embeddings, labels, held=held)
    assert (found.auc, found.eer, found.points) == (auc(expected), eer(expected), operating_points(expected))
    assert len(found.points) == 4  # 78,000 impostors resolve 1e-4
    assert 0 < found.eer.value < 0.2


def test_no_more_is_held_than_allowed(monkeypatch) -> None:
    sizes = []
    gather = streaming._gather

    def watched(*arguments):
        sides = gather(*arguments)
        sizes.append(sum(side.size for side in sides))
        return sides

    monkeypatch.setattr(streaming, "_gather", watched)
    generator = np.random.default_rng(4)
    all_pairs(unit(generator, 400), np.arange(400) % 40, held=10_000)
    assert max(sizes) <= 10_000
    assert sum(sizes) == 400 * 399 // 2


def test_a_thinned_curve_has_exact_rows_where_they_matter() -> None:
    generator = np.random.default_rng(5)
    genuine, impostor = np.clip(generator.normal(0.5, 0.2, 5_000), -1, 1), generator.normal(0, 0.1, 50_000)
    whole, thin = roc(genuine, impostor), summarise([roc(genuine, impostor)]).curve
    assert thin.thresholds.size < 1_000
    rows = {row: i for i, row in enumerate(whole.thresholds.tolist())}
    for threshold, wrong, right in zip(thin.thresholds, thin.false_accepts, thin.true_accepts, strict=True):
        assert (whole.false_accepts[rows[threshold]], whole.true_accepts[rows[threshold]]) == (wrong, right)
    assert (thin.thresholds[0], thin.false_accepts[-1], thin.true_accepts[-1]) == (np.inf, 50_000, 5_000)
    assert operating_points(thin) == operating_points(whole)
    for edge in (-0.2, 0.0, 0.31):  # the histogram can be read off
        row = np.searchsorted(-thin.thresholds, -edge, side="right") - 1
        assert thin.true_accepts[row] == (genuine >= edge).sum()
        assert thin.false_accepts[row] == (impostor >= edge).sum()
    assert np.diff(thin.false_accepts).max() <= 50_000 / 50  # no gaps in a plot
    assert np.diff(thin.true_accepts).max() <= 5_000 / 50


def test_nothing_but_ties() -> None:
    found = all_pairs(np.ones((30, 1), dtype=np.float32), np.arange(30) % 3, held=10)
    assert (found.auc, found.eer.value, found.eer.low, found.eer.high) == (0.5, 0.5, 0.0, 1.0)


# Each row: embeddings, labels -> the error and what it says.
@pytest.mark.parametrize(
    ("embeddings", "labels", "error", "words"),
    [
        (np.ones((3, 1)), [0, 1, 2], EmptyScores, "no two images of one person"),
        (np.ones((3, 1)), [0, 0, 0], EmptyScores, "no images of two people"),
        (np.ones((0, 1)), [], EmptyScores, "0 images"),
        (np.ones((3, 2)), [0, 0, 1], DataError, r"length 1.41421 at 0"),
        (np.full((3, 1), np.nan), [0, 0, 1], DataError, "length nan"),
        (np.ones(3), [0, 0, 1], UsageError, r"\(3,\) and \(3,\)"),
        (np.ones((3, 1)), [0, 0], UsageError, r"\(2,\)"),
    ],
)
def test_embeddings_that_are_refused(embeddings, labels, error, words) -> None:
    with pytest.raises(error, match=words):
        all_pairs(embeddings, labels)


def test_no_curve_at_all() -> None:
    with pytest.raises(EmptyScores):
        summarise([])
    with pytest.raises(UsageError, match="at least one score"):
        all_pairs(np.ones((3, 1)), [0, 0, 1], held=0)


def test_held_scores_give_the_curve_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "STRETCH", 16)
    rng = np.random.default_rng(5)
    genuine = (rng.integers(0, 50, 90) / 50).astype(np.float32)
    impostor = (rng.integers(0, 40, 400) / 50).astype(np.float32)
    whole = streaming.summarise([roc(genuine, impostor)])
    found = streaming.summarise_scores(genuine.copy(), impostor.copy())
    assert (found.auc, found.eer, found.points) == (whole.auc, whole.eer, whole.points)
    with pytest.raises(EmptyScores):
        streaming.summarise_scores(genuine, impostor[:0])
