"""The examples in the docstrings say what the functions do."""

import doctest
from types import ModuleType

import pytest

from facewright.evaluation import compare
from facewright.metrics import calibration, classification, intervals


@pytest.mark.parametrize("module", [intervals, classification, calibration, compare])
def test_the_examples_hold(module: ModuleType) -> None:
    ran = doctest.testmod(module)
    assert ran.attempted > 0
    assert ran.failed == 0
