"""Results of an export, and the cost of int8: the answers of both models to the same labelled images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from facewright.bundle import Precision
from facewright.errors import DataError
from facewright.exportation.agreement import Agreement, ModelOutputs
from facewright.input_spec import InputSpec
from facewright.metrics.intervals import Rate, mcnemar_exact, wilson
from facewright.metrics.streaming import all_pairs
from facewright.records import Record

BLOCK = 1_024  # images whose nearest neighbours are searched at once

Question = Literal["class", "nearest"]


class Int8Cost(Record):
    """Correct answers in float32 and in int8, on the same images."""

    data: str
    question: Question  # "class": is the class right; "nearest": does the nearest match show the same person
    float32: Rate  # Wilson
    int8: Rate
    lost: int  # images that only the float32 model got right
    won: int  # images that only the int8 model got right
    p_value: float  # McNemar, exact
    auc_float32: float  # over every pair of the images
    auc_int8: float
    eer_float32: float
    eer_int8: float


class TargetCost(Record):
    """One target of the same images in float32 and in int8, at the same threshold."""

    name: str
    measure: Literal["accuracy", "mean absolute error"]  # the latter in the units of a number
    float32: Rate | None  # None: the target is known of no image
    int8: Rate | None
    changed: Rate | None  # answers that differ, Wilson; None: a number
    furthest: float  # the largest difference of a probability, or of a number in its units


def measure_int8_cost(
    before: ModelOutputs, after: ModelOutputs, people: NDArray[np.str_], classes: tuple[str, ...], data: str
) -> Int8Cost:
    """Measure both models on labelled images.

    If every person is one of the model's classes, an answer is correct if the class is; otherwise, if the nearest match
    shows the same person. The latter counts only images of people with at least two.

    Args:
        before, after: N images answered in float32 and int8. people: (N,) the person in each. classes: of the model.
        data: what the images are, for the record.
    Raises:
        EmptyScores: no two images of one person, or one person only. DataError: no person has two images.
    """
    question: Question = "class" if classes and set(people.tolist()) <= set(classes) else "nearest"
    if question == "class":
        names = np.array(classes)
        right = [names[answers.probabilities.argmax(1)] == people for answers in (before, after)]  # type: ignore[union-attr]
    else:
        values, counts = np.unique(people, return_counts=True)
        usable = np.isin(people, values[counts > 1])
        if not usable.any():
            raise DataError(f"{data}: expected a person with at least two images; add images or choose other data")
        right = [(people[nearest(answers.vectors)] == people)[usable] for answers in (before, after)]
    first, second = right
    curves = [all_pairs(answers.vectors, people) for answers in (before, after)]
    return Int8Cost(
        data=data,
        question=question,
        float32=wilson(int(first.sum()), first.size),
        int8=wilson(int(second.sum()), second.size),
        lost=int((first & ~second).sum()),
        won=int((second & ~first).sum()),
        p_value=mcnemar_exact(first, second),
        auc_float32=curves[0].auc,
        auc_int8=curves[1].auc,
        eer_float32=curves[0].eer.value,
        eer_int8=curves[1].eer.value,
    )


def nearest(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return for each row the other row with the largest cosine; the first of equal ones.

    >>> nearest(np.float32([[1, 0], [0, 1], [0.8, 0.6]]))
    array([2, 2, 0])
    """
    found = np.empty(len(vectors), np.int64)
    for start in range(0, len(vectors), BLOCK):
        part = vectors[start : start + BLOCK] @ vectors.T
        part[np.arange(len(part)), np.arange(start, start + len(part))] = -np.inf
        found[start : start + len(part)] = part.argmax(1)
    return found


class Int8Report(Record):
    """The calibration of the int8 file, and its cost."""

    calibration: str  # the data set
    pictures: int  # calibration images used
    float32_bytes: int  # size of the float32 file
    cost: Int8Cost | None  # None: the model has targets in place of classes
    targets: tuple[TargetCost, ...] = ()


class Export(Record):
    """A model that was written as ONNX."""

    task: Literal["export"] = "export"
    model: str
    path: str
    size: int  # bytes
    architecture: str
    spec: InputSpec = Field(serialization_alias="input")
    outputs: Mapping[str, int]  # name -> numbers per image
    precision: Precision
    fingerprints: Mapping[str, str]
    data: str  # what the float32 graph was compared with PyTorch on
    agreement: Agreement  # of the float32 graph, also where the file is int8
    thresholds: int  # in the file
    dropped: int  # thresholds of the model that do not hold for it
    quantised: Int8Report | None = None  # None: float32
