"""From what a model of two classes said to a yes or no: the second class in order is the one to accept.

The score is the probability of that class; the threshold is chosen on the validation part and scored on another.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facewright.errors import EmptyScores, Undefined
from facewright.evaluation.binary import BinaryResult, judge_binary
from facewright.evaluation.results import Predictions
from facewright.metrics.binary_threshold import BinaryThreshold, choose


def sides(predictions: Predictions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The probabilities of the second class, of its own images (P,) and of those of the first (Q,)."""
    scores, positive = labelled_scores(predictions)
    return scores[positive], scores[~positive]


def labelled_scores(predictions: Predictions) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The probability of the second class of each image, (N,), and whether that is its class, (N,)."""
    return predictions.probabilities[:, 1].astype(np.float64), predictions.labels == 1


def threshold_of(validation: Predictions, classes: tuple[str, ...], rule: str, data: str) -> BinaryThreshold | None:
    """The threshold that a rule chooses on the validation part; None where that part lacks one of the two classes.

    Args:
        validation: what the model said of the validation part.
        classes: of the model; None also where they are not two.
        data: what these images are, for the record.
    Raises:
        UnknownName: no such rule. DataError: a score is not finite.
        Undefined: no threshold meets the rule's false-accept rate (too few images of the first class, or equal scores).
    """
    genuine, impostor = sides(validation) if len(classes) == 2 else (np.zeros(0), np.zeros(0))
    if not genuine.size or not impostor.size:
        return None
    return choose(genuine, impostor, rule, (classes[0], classes[1]), data)


def judge(validation: Predictions, test: Predictions, classes: tuple[str, ...], rule: str) -> BinaryResult | None:
    """HTER, EER and EPC of a model of two classes; None where it is undefined.

    That is where a part lacks one of the classes, where no threshold meets the rule, or where there are other classes.

    Args: as `threshold_of`; test: what the model said of the images to measure on.
    Raises: UnknownName: no such rule. DataError: a score is not finite.
    """
    if len(classes) != 2:
        return None
    try:
        return judge_binary(labelled_scores(validation), labelled_scores(test), rule, (classes[0], classes[1]))
    except (EmptyScores, Undefined):
        return None
