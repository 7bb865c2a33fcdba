"""The page of a verifier: whole, self-contained, true to the numbers; figures at the edges of what can be drawn."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from facewright.evaluation.verification import VerificationResult, error_versus_reject, verify_pairs
from facewright.metrics.intervals import Rate
from facewright.metrics.thresholds import Threshold
from facewright.metrics.verification import ErrorRates
from facewright.provenance import Origin
from facewright.report import verification as plots
from facewright.report.verification import MeasuredThreshold, PairContext, ShownPair, decisive_threshold, pair_page

VOID = {"meta", "img", "br", "link", "input", "hr", "path", "rect", "use"}


def measured(apart: float = 1.0, pairs: int = 200, folds: int = 10) -> VerificationResult:
    draws = np.random.default_rng(0)
    scores = np.clip(np.r_[draws.normal(0.5, 0.15, pairs), draws.normal(0.5 - apart / 2, 0.15, pairs)], -1, 1)
    part = None if folds == 0 else np.tile(np.arange(pairs) % folds, 2)
    return verify_pairs(scores, np.arange(2 * pairs) < pairs, folds=part, failures=[3])


def context(result: VerificationResult, **changes: object) -> PairContext:
    shown = [ShownPair("a/<b>.png", "c/d.png", 0.4321)]
    facts = ("runs/<i>", "list & more", "112 × 112 px", shown, shown, Origin())
    return replace(PairContext(result, *facts, broken=[("x.png", "is empty")]), **changes)


class Balance(HTMLParser):
    """Fails where a tag is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open and self.open.pop() == tag, tag


@pytest.mark.parametrize("apart", [0.0, 0.5, 3.0])  # no better than chance, as real ones are, told apart without error
@pytest.mark.parametrize("folds", [0, 2, 10])
def test_the_page_is_whole_and_self_contained(apart: float, folds: int) -> None:
    page = pair_page(context(measured(apart, folds=folds)))
    balance = Balance()
    balance.feed(page)
    assert balance.open == ["html"] or balance.open == []
    assert "default-src 'none'" in page
    assert not re.search(r"(?:src|href)=\"(?!#|data:)|url\((?!#)", page)
    assert "<script" not in page and "nan" not in re.sub(r"[a-z]*nan[a-z]+", "", page.lower())
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert "<b>.png" not in page and "runs/<i>" not in page and "list &amp; more" in page


def test_the_page_says_the_numbers() -> None:
    result = measured(0.5)
    page = pair_page(context(result))
    assert result.accuracy is not None and result.folds is not None
    assert f"{100 * result.accuracy.value:.2f} %" in page
    assert f"standard error {100 * result.folds.standard_error:.2f} points" in page
    assert f"{100 * result.eer:.2f} %" in page
    assert f"{result.auc:.4f}" in page
    assert "1 pairs have no score" not in page and "1 pair has no score" in page
    for row in result.tar_at_far:
        assert f"{row.threshold:.4f}" in page
    assert "0.432" in page and "x.png" in page and "is empty" in page


def test_the_models_own_threshold_and_whether_these_pairs_test_it() -> None:
    far, frr = Rate(value=0.002, low=0.001, high=0.01, n=500), Rate(value=0.1, low=0.05, high=0.2, n=500)
    threshold = Threshold(value=0.31, far_target=1e-3, data="dev", rule="a test", far=far, impostors=500)
    held = MeasuredThreshold(threshold, ErrorRates(far=far, frr=frr), on_its_own=False)
    assert "do not test it" not in pair_page(context(measured(), stored=held))
    assert "do not test it" in pair_page(context(measured(), stored=replace(held, on_its_own=True)))


def test_the_curve_of_rejected_pairs() -> None:
    draws = np.random.default_rng(1)
    quality = draws.random((300, 2))
    curve = error_versus_reject(quality.min(axis=1) + draws.normal(0, 0.2, 300), quality, 0.2, chosen="a <test>")
    page = pair_page(context(measured(), rejection=curve))
    assert f"{100 * curve.points[0].fnmr.value:.2f} %" in page and f"{curve.area:.2f} of that without" in page
    assert "a &lt;test&gt;" in page and page.count('aria-label="FNMR') + page.count("<title>FNMR") > 0
    without_error = error_versus_reject(quality.min(axis=1), quality, -1)
    assert "along the curve" not in pair_page(context(measured(), rejection=without_error))
    assert plots.reject_figure(error_versus_reject([0.5], [[1, 1]], 0.2), "k").startswith("<svg")  # one point


def test_the_threshold_that_is_drawn() -> None:
    result = measured(0.5)
    assert result.folds is not None
    assert decisive_threshold(result) == pytest.approx(np.mean(result.folds.thresholds))
    without = measured(0.5, folds=0)
    assert decisive_threshold(without) == without.eer_threshold


def test_a_histogram_keeps_every_pair() -> None:
    result = measured(0.5)
    counts = np.array([result.histogram_impostors, result.histogram_genuine])
    edges, trimmed = plots._trimmed(np.array(result.histogram_edges), counts)
    assert trimmed.sum(axis=1).tolist() == counts.sum(axis=1).tolist() == [result.impostors, result.genuine]
    assert len(edges) == trimmed.shape[1] + 1
    assert trimmed.shape[1] <= 70


@pytest.mark.parametrize("figure", [plots.roc_figure, plots.det_figure])
def test_figures_of_few_pairs(figure: object) -> None:
    tiny = verify_pairs([0.9, 0.1], [True, False])
    assert figure(tiny, "k").startswith("<svg")  # type: ignore[operator]
