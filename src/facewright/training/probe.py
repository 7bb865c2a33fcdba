"""A linear probe: logistic regression, of a number ridge regression, on the features of a frozen backbone.

Source: Kornblith, Shlens and Le 2019, "Do Better ImageNet Models Transfer Better?", arXiv:1805.08974, section 3 (the
L2-regularised logistic regression on frozen features, its strength chosen inside the training part).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facewright.errors import UsageError
from facewright.specs import TaskSpec
from facewright.training.recipe_parts import Probe

HELD_OUT = "a linear probe chooses its C on held-out images"
Floats = NDArray[np.float64]
Fold = tuple[NDArray[np.int64], NDArray[np.int64]]  # rows that are fitted, and rows held out
Fit = Callable[[Floats, Any, float], tuple[Floats, Floats]]  # scaled features, truth, strength -> weights, biases
Losses = Callable[[Floats, Any], Floats]  # scores, truth -> of each image


@dataclass(frozen=True)
class FittedProbe:
    """A fitted linear classifier on raw features."""

    weight: NDArray[np.float32]  # (C, F)
    bias: NDArray[np.float32]  # (C,)
    strength: float  # C of scikit-learn: the inverse of the penalty's weight
    log_losses: tuple[float, ...]  # of each strength, mean over the folds; none of one alone


def fit(
    features: NDArray[np.float32], labels: NDArray[np.int64], groups: NDArray[np.int64], chosen: Probe, seed: int
) -> FittedProbe:
    """Choose the strength by cross-validation inside the training part, then fit on all of it.

    Features are standardised for the fit; the map is folded into the weights that are returned.

    Args:
        features: (N, F).
        labels: (N,) class numbers 0 … C - 1, each present.
        groups: (N,) images with one number (copies of a photo) are never split between the two sides of a fold.
        chosen: inverse penalties to try, and folds, fewer where the rarest class has fewer members.
        seed: of the folds.
    Raises:
        UsageError: a class has only one member, so that nothing can be held out.
    """
    parts: list[Fold] = []
    if len(chosen.strengths) > 1:
        from sklearn.model_selection import StratifiedGroupKFold

        rarest = min(len(set(groups[labels == label])) for label in np.unique(labels))
        if rarest < 2:
            raise UsageError(f"{HELD_OUT}: every class needs two training images or more")
        splitter = StratifiedGroupKFold(min(chosen.folds, rarest), shuffle=True, random_state=seed)
        parts = list(splitter.split(features, labels, groups))
    return _fitted(features, labels, parts, chosen.strengths, (_logistic, _log_losses))


def fit_targets(
    task: TaskSpec,
    features: NDArray[np.float32],
    truth: NDArray[np.float32],
    groups: NDArray[np.int64],
    chosen: Probe,
    seed: int,
) -> list[FittedProbe]:
    """Fit each target by itself on the images where it is known; args and errors as `fit`.

    Args:
        task: its numbers have a range.
        truth: (N, T), of an attribute 1 yes and 0 no, of classes their number; NaN unknown.
    Returns:
        One a target with weights (S, F) and biases (S,) of its scores: the logit of yes, the standardized number, or
        the logits of the classes.
    """
    found = []
    for target, _, place, _ in task.parts:
        answers = truth[:, place.start]
        known = ~np.isnan(answers)
        if target.number is not None:
            low, high = target.number.ends
            standard = (answers[known].astype(np.float64) - (low + high) / 2) * (2 / (high - low))
            found.append(_number(features[known], standard, groups[known], chosen))
            continue
        one = fit(features[known], answers[known].astype(np.int64), groups[known], chosen, seed)
        if target.kind == "attribute":
            one = replace(one, weight=np.diff(one.weight, axis=0), bias=np.diff(one.bias))
        found.append(one)
    return found


def _number(
    features: NDArray[np.float32], values: NDArray[np.float64], groups: NDArray[np.int64], chosen: Probe
) -> FittedProbe:
    """Fit a number (N,) by least squares with an L2 penalty of 1 / strength, chosen by the held-out squared error."""
    from sklearn.model_selection import GroupKFold

    folds = min(chosen.folds, len(set(groups.tolist())))
    if folds < 2:
        raise UsageError(f"{HELD_OUT}: a number needs two training images or more")
    parts = list(GroupKFold(folds).split(features, groups=groups))
    return _fitted(features, values, parts, chosen.strengths, (_ridge, _squared_errors))


def _fitted(
    features: NDArray[np.float32], truth: Any, parts: list[Fold], strengths: tuple[float, ...], ways: tuple[Fit, Losses]
) -> FittedProbe:
    """Fit with the strength whose mean held-out loss is least; `ways`: the fit, and the loss of each image."""
    fitted, losses = ways
    mean = features.mean(axis=0, dtype=np.float64)
    deviation = np.maximum(features.std(axis=0, dtype=np.float64), 1e-6)
    scaled, means = (features - mean) / deviation, []
    for strength in strengths if len(strengths) > 1 else ():
        held_out = []
        for inside, outside in parts:
            weight, bias = fitted(scaled[inside], truth[inside], strength)
            held_out.append(losses(scaled[outside] @ weight.T + bias, truth[outside]))
        means.append(float(np.mean(np.concatenate(held_out))))
    strength = strengths[int(np.nanargmin(means))] if means else strengths[0]
    weight, bias = fitted(scaled, truth, strength)
    folded = weight / deviation
    return FittedProbe(folded.astype(np.float32), (bias - folded @ mean).astype(np.float32), strength, tuple(means))


def _logistic(scaled: Floats, labels: NDArray[np.int64], strength: float) -> tuple[Floats, Floats]:
    """Weights (C, F) and biases (C,), a row for each class, for two classes too."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=2000, tol=1e-4).fit(scaled, labels)
    if len(model.classes_) == 2:
        weight = np.concatenate([-model.coef_, model.coef_]) / 2
        return weight, np.concatenate([-model.intercept_, model.intercept_]) / 2
    return np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)


def _log_losses(scores: Floats, labels: NDArray[np.int64]) -> Floats:
    from scipy.special import log_softmax

    return np.asarray(-log_softmax(scores, axis=1)[np.arange(len(labels)), labels])


def _ridge(scaled: Floats, values: Floats, strength: float) -> tuple[Floats, Floats]:
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=1 / strength).fit(scaled, values)
    return model.coef_[None], np.array([model.intercept_])


def _squared_errors(found: Floats, values: Floats) -> Floats:
    return np.asarray((found[:, 0] - values) ** 2)
