"""Thresholds in a model file: kept whole, picked by their target, replaced, and refused when they are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from facewright import bundle as bundles
from facewright.decision import UNKNOWN, VERIFICATION, Decision, pick, stored, with_decision
from facewright.errors import BundleError, DataError, Undefined
from fixtures.decisions import decision
from fixtures.faces import small_bundle


def test_a_file_gives_back_what_was_stored(tmp_path: Path) -> None:
    bare = replace(decision(), calibration=None, far_by_identity=None, people=None, histograms=None)
    for one in (decision(), bare, replace(decision(), detector="dlib")):
        bundles.save(tmp_path / "m.safetensors", with_decision(small_bundle(), one))
        (found,) = stored(bundles.load(tmp_path / "m.safetensors"), VERIFICATION, one.fingerprint)
        assert found == one


def test_equal_decisions_give_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        bundles.save(tmp_path / name, with_decision(small_bundle(), decision()))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_of_a_kind_and_target_there_is_one_and_the_last_counts() -> None:
    bundle = small_bundle()
    for one in (decision(0.25), decision(0.5), decision(0.25, UNKNOWN), decision(0.25)):
        bundle = with_decision(bundle, one)
    held = stored(bundle, VERIFICATION, "f" * 32)
    assert [one.threshold.far_target for one in held] == [0.5, 0.25]
    assert len(stored(bundle, UNKNOWN, "f" * 32)) == 1
    assert pick(held, None) == held[-1]
    assert pick(held, 0.5) == held[0]
    assert pick((), 0.5) is None is pick((), None)
    with pytest.raises(Undefined, match=r"no threshold for .* of 0\.1; it has one for 0\.5, 0\.25"):
        pick(held, 0.1)


def test_a_threshold_for_other_weights_is_not_used_and_goes_with_the_next() -> None:
    bundle = with_decision(small_bundle(), decision(fingerprint="0" * 32))
    assert stored(bundle, VERIFICATION, "f" * 32) == ()
    bundle = with_decision(bundle, decision(0.5))
    assert len(bundle.thresholds) == 1


def test_the_threshold_of_another_detector_stays() -> None:
    bundle = with_decision(small_bundle(), replace(decision(), detector="dlib", fingerprint="0" * 32))
    bundle = with_decision(bundle, decision())
    assert len(bundle.thresholds) == 2 and len(stored(bundle, VERIFICATION, "f" * 32)) == 1
    bundle = with_decision(bundle, replace(decision(), detector="dlib", fingerprint="1" * 32))
    assert [facts["fingerprint"] for facts in bundle.thresholds] == ["f" * 32, "1" * 32]


def test_a_file_of_before_says_nothing_of_detector_and_scores() -> None:
    facts = decision().to_dict()
    del facts["detector"], facts["histograms"]
    assert Decision.from_dict(facts) == replace(decision(), histograms=None)
    bundle = with_decision(replace(small_bundle(), thresholds=(facts,)), decision())
    assert len(bundle.thresholds) == 1  # the new one takes its place


def test_thresholds_of_other_kinds_are_left_alone() -> None:
    foreign = {"kind": "binary", "value": 0.5}
    bundle = with_decision(replace(small_bundle(), thresholds=(foreign,)), decision())
    assert bundle.thresholds[0] == foreign
    assert len(stored(bundle, VERIFICATION, "f" * 32)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"people": "many"},
        {"threshold": {"value": 0.5}},
        {"calibration": {"method": "logistic"}},
        {"far_by_identity": {"value": 0.5}},
        {"surplus": 1},
        {"crop": None},
        {"histograms": {"low": 1.0, "high": 0.0}},
    ],
)
def test_what_is_no_threshold_is_refused(change: dict[str, object]) -> None:
    facts = decision().to_dict() | change
    with pytest.raises(DataError, match=r"no stored threshold|no threshold|no score calibration|no histograms"):
        Decision.from_dict(facts)
    with pytest.raises(BundleError, match="cannot be trusted"):
        stored(replace(small_bundle(), thresholds=(facts,)), VERIFICATION, "f" * 32)


def test_a_missing_field_is_refused() -> None:
    facts = decision().to_dict()
    del facts["digest"]
    with pytest.raises(DataError, match="no stored threshold"):
        Decision.from_dict(facts)
