"""A linear probe: logistic regression, of a number ridge regression, on the features of a frozen backbone.

Source: Kornblith, Shlens and Le 2019, "Do Better ImageNet Models Transfer Better?", arXiv:1805.08974, section 3 (the
L2-regularised logistic regression on frozen features, its strength chosen inside the training part).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from facewright.errors import UsageError
from facewright.specs import TaskSpec
from facewright.training.recipe_parts import Probe


@dataclass(frozen=True)
class FittedProbe:
    """A fitted linear classifier on raw features."""

    weight: NDArray[np.float32]  # (C, F)
    bias: NDArray[np.float32]  # (C,)
    strength: float  # C of scikit-learn: the inverse of the penalty's weight
    log_losses: tuple[float, ...]  # of each strength tried, mean over the folds


def fit(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    chosen: Probe,
    seed: int,
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
    scaled, mean, deviation = _standardised(features)
    strengths, several = chosen.strengths, len(chosen.strengths) > 1
    losses = _cross_validated(scaled, labels, groups, chosen, seed) if several else (float("nan"),)
    strength = strengths[int(np.nanargmin(losses))] if several else strengths[0]
    weight, bias = _fitted(scaled, labels, strength)
    folded = weight / deviation
    return FittedProbe(folded.astype(np.float32), (bias - folded @ mean).astype(np.float32), strength, losses)


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
            found.append(_ridge(features[known], standard, groups[known], chosen))
            continue
        one = fit(features[known], answers[known].astype(np.int64), groups[known], chosen, seed)
        if target.kind == "attribute":
            one = replace(one, weight=np.diff(one.weight, axis=0), bias=np.diff(one.bias))
        found.append(one)
    return found


def _ridge(
    features: NDArray[np.float32],
    values: NDArray[np.float64],
    groups: NDArray[np.int64],
    chosen: Probe,
) -> FittedProbe:
    """Fit a number (N,) by least squares with an L2 penalty of 1 / strength, chosen by the held-out squared error."""
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GroupKFold

    scaled, mean, deviation = _standardised(features)
    folds, strengths = min(chosen.folds, len(set(groups.tolist()))), chosen.strengths
    if folds < 2:
        raise UsageError("a linear probe chooses its C on held-out images: a number needs two training images or more")
    parts = list(GroupKFold(folds).split(scaled, groups=groups))
    errors = []
    for strength in strengths if len(strengths) > 1 else ():
        models = [(Ridge(alpha=1 / strength).fit(scaled[inside], values[inside]), outside) for inside, outside in parts]
        held_out = [(model.predict(scaled[outside]) - values[outside]) ** 2 for model, outside in models]
        errors.append(float(np.mean(np.concatenate(held_out))))
    strength = strengths[int(np.argmin(errors))] if errors else strengths[0]
    model = Ridge(alpha=1 / strength).fit(scaled, values)
    folded = model.coef_ / deviation
    bias = np.array([model.intercept_ - folded @ mean], np.float32)
    return FittedProbe(folded[None].astype(np.float32), bias, strength, tuple(errors))


def _cross_validated(
    scaled: NDArray[np.float64],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    chosen: Probe,
    seed: int,
) -> tuple[float, ...]:
    """The mean held-out log loss of each strength."""
    from scipy.special import log_softmax
    from sklearn.model_selection import StratifiedGroupKFold

    rarest = min(len(set(groups[labels == label])) for label in np.unique(labels))
    if rarest < 2:
        raise UsageError(
            "a linear probe chooses its C on held-out images: every class needs two training images or more"
        )
    splitter = StratifiedGroupKFold(min(chosen.folds, rarest), shuffle=True, random_state=seed)
    parts = list(splitter.split(scaled, labels, groups))
    totals = []
    for strength in chosen.strengths:
        held_out = []
        for inside, outside in parts:
            weight, bias = _fitted(scaled[inside], labels[inside], strength)
            logs = log_softmax(scaled[outside] @ weight.T + bias, axis=1)
            held_out.append(-logs[np.arange(len(outside)), labels[outside]])
        totals.append(float(np.mean(np.concatenate(held_out))))
    return tuple(totals)


def _fitted(
    scaled: NDArray[np.float64], labels: NDArray[np.int64], strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (C, F) and biases (C,), a row for each class, for two classes too."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=2000, tol=1e-4).fit(scaled, labels)
    if len(model.classes_) == 2:
        weight = np.concatenate([-model.coef_, model.coef_]) / 2
        return weight, np.concatenate([-model.intercept_, model.intercept_]) / 2
    return np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)


def _standardised(features: NDArray[np.float32]) -> tuple[NDArray[np.float64], ...]:
    """Features (N, F) of mean 0 and deviation 1; the means and deviations (F,) that they had."""
    mean = features.mean(axis=0, dtype=np.float64)
    deviation = np.maximum(features.std(axis=0, dtype=np.float64), 1e-6)
    return (features - mean) / deviation, mean, deviation
