"""What int8 costs: the same labelled pictures answered by the float32 model and by the int8 one."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facewright.errors import DataError
from facewright.exportation.agreement import ModelOutputs
from facewright.metrics.intervals import Rate, mcnemar_exact, wilson
from facewright.metrics.streaming import all_pairs
from facewright.records import Record

BLOCK = 1_024  # pictures whose neighbours are looked for at once

Question = Literal["class", "nearest"]


class Int8Cost(Record):
    """Right answers before and after, on the same pictures."""

    data: str
    question: Question  # "class": is it named right; "nearest": is the picture most like it one of the same person
    float32: Rate  # Wilson
    int8: Rate
    lost: int  # pictures that only float32 got right
    won: int  # that only int8 did
    p_value: float  # McNemar, exact
    auc_float32: float  # over every pair of the pictures
    auc_int8: float
    eer_float32: float
    eer_int8: float


def measure_int8_cost(
    before: ModelOutputs, after: ModelOutputs, people: NDArray[np.str_], classes: tuple[str, ...], data: str
) -> Int8Cost:
    """Judge both models on labelled pictures.

    Whether a class is named right is asked where everybody on the pictures is one of the model's classes; else whether
    each picture's nearest other picture shows the same person, of the pictures whose person has another one.

    Args:
        before, after: N pictures answered in float32 and int8. people: (N,) who is on them. classes: of the model.
        data: what the pictures are, for the record.
    Raises:
        EmptyScores: no two pictures of one person, or one person only. DataError: nobody is on two pictures.
    """
    question: Question = "class" if classes and set(people.tolist()) <= set(classes) else "nearest"
    if question == "class":
        names = np.array(classes)
        right = [names[answers.probabilities.argmax(1)] == people for answers in (before, after)]  # type: ignore[union-attr]
    else:
        values, counts = np.unique(people, return_counts=True)
        usable = np.isin(people, values[counts > 1])
        if not usable.any():
            raise DataError(f"{data}: expected somebody who is on two pictures, to see whether they are found alike")
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
    """Of each row, which other one it has the largest cosine with; of equals the first.

    >>> nearest(np.float32([[1, 0], [0, 1], [0.8, 0.6]]))
    array([2, 2, 0])
    """
    found = np.empty(len(vectors), np.int64)
    for start in range(0, len(vectors), BLOCK):
        part = vectors[start : start + BLOCK] @ vectors.T
        part[np.arange(len(part)), np.arange(start, start + len(part))] = -np.inf
        found[start : start + len(part)] = part.argmax(1)
    return found
