"""Results that an earlier version wrote are read, and written again with the same keys."""

import json
from pathlib import Path

import pytest

from facewright.errors import RunError
from facewright.evaluation.classification import ClassificationResult
from facewright.evaluation.identification import IdentificationResult
from facewright.evaluation.label_issues import LabelIssues
from facewright.evaluation.results import Pair
from facewright.evaluation.verification import VerificationResult
from facewright.files import as_record

BEFORE = json.loads(Path(__file__).with_name("results_before.json").read_text("utf-8"))
KINDS = {
    "classification": ClassificationResult,
    "no binary": ClassificationResult,
    "verification": VerificationResult,
    "folds": VerificationResult,
    "identification": IdentificationResult,
    "suspicious labels": LabelIssues,
    "pair": Pair,
}


@pytest.mark.parametrize("name", BEFORE)
def test_a_result_that_an_earlier_version_wrote(name: str) -> None:
    facts = BEFORE[name]
    found = as_record(facts, KINDS[name], name, error=RunError)
    again = found.to_dict()
    assert {key: again[key] for key in facts} == facts
    assert as_record(json.loads(json.dumps(again, allow_nan=False)), KINDS[name], name) == found


@pytest.mark.parametrize("name", ["classification", "verification", "identification", "suspicious labels"])
def test_a_result_as_a_table(name: str) -> None:
    found = as_record(BEFORE[name], KINDS[name], name)
    assert "<table>" in found._repr_html_()
    pytest.importorskip("pandas")
    assert len(found.to_frame()) == len(found.to_dict()[found.frame_rows] if found.frame_rows else [0])
