"""Rates with their 95 % intervals, and whether two models differ by more than chance.

Wilson's interval is for reported shares, Clopper and Pearson's for error rates near zero, the bootstrap for statistics
that are no plain share (macro-F1). All of them describe how much the number would move with *other test images of the
same kind*. They say nothing of another training seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import Undefined, UsageError
from facewright.records import Count, Number, Record

RESAMPLES = 2_000
CELLS = 10_000_000  # counts of all resamples and classes that are held at once: more are drawn in blocks

_TINY = 1e-300
_TERMS = 100_000  # of the continued fraction; it takes about the square root of a + b
_STEPS = 200  # of halving: to the last bit of a double


class Rate(Record):
    """A share with its 95 % interval and the count it rests on.

    >>> Rate(value=0.91, low=0.87, high=0.94, n=257).to_dict()
    {'value': 0.91, 'low': 0.87, 'high': 0.94, 'n': 257}
    """

    value: Number
    low: Number
    high: Number
    n: Count


@dataclass(frozen=True)
class Tally:
    """Counts per class, all that precision, recall, F1 and accuracy need. Leading axes are resamples.

    hits: (..., C) images of the class predicted as it; labelled: (..., C) or (C,) images of the class; predicted:
    (..., C) images predicted as the class.
    """

    hits: NDArray[np.int64]
    labelled: NDArray[np.int64]
    predicted: NDArray[np.int64]


Statistic = Callable[[Tally], NDArray[np.float64]]  # (..., C) counts -> (...) values


def tally(labels: ArrayLike, predicted: ArrayLike, classes: int) -> Tally:
    """Count hits, labels and predictions of each class.

    Args:
        labels, predicted: (N,) class numbers in [0, classes).
    Raises:
        UsageError: the two differ in length, or a number is no class.
    >>> tally([0, 0, 1], [0, 1, 1], classes=2).hits.tolist()
    [1, 1]
    """
    truth, guess = class_numbers(labels, classes, "labels"), class_numbers(predicted, classes, "predicted")
    same_length(truth, guess)
    return Tally(
        hits=np.bincount(truth[truth == guess], minlength=classes).astype(np.int64),
        labelled=np.bincount(truth, minlength=classes).astype(np.int64),
        predicted=np.bincount(guess, minlength=classes).astype(np.int64),
    )


def wilson(k: int, n: int, confidence: float = 0.95) -> Rate:
    """The share k/n with Wilson's score interval.

    Args:
        k: in [0, n]. confidence: in (0, 1).
    Raises:
        Undefined: n is 0. UsageError: k or the confidence is out of range.
    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927);
    without continuity correction.
    >>> rate = wilson(0, 10)
    >>> rate.value, rate.low, round(rate.high, 4)
    (0.0, 0.0, 0.2775)
    """
    _check_share(k, n, confidence)
    z = -normal_quantile((1 - confidence) / 2)
    share, spread = k / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = (z / (1 + spread)) * ((share * (1 - share) + spread / 4) / n) ** 0.5
    # At the ends the bound is exact in algebra and must not be 1e-17 off in floating point.
    low = 0.0 if k == 0 else max(0.0, centre - half)
    high = 1.0 if k == n else min(1.0, centre + half)
    return Rate(value=share, low=low, high=high, n=n)


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> Rate:
    """The share k/n with the exact interval of Clopper and Pearson, which covers at least as often as it says.

    Args, Raises: as `wilson`.
    Source: C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26 (1934); the bounds as quantiles of beta distributions.
    >>> round(clopper_pearson(0, 3000).high, 5)
    0.00123
    """
    _check_share(k, n, confidence)
    tail = (1 - confidence) / 2
    low = 0.0 if k == 0 else beta_quantile(k, n - k + 1, tail)
    high = 1.0 if k == n else beta_quantile(k + 1, n - k, 1 - tail)
    return Rate(value=k / n, low=low, high=high, n=n)


def complement(rate: Rate) -> Rate:
    """Return the rate of the opposite: of errors, from an accuracy."""
    return Rate(value=1 - rate.value, low=1 - rate.high, high=1 - rate.low, n=rate.n)


def not_a_point(rate: Rate) -> Rate:
    """Replace an interval of resampling that collapsed to a point by the one of Clopper and Pearson.

    >>> rate = not_a_point(Rate(value=0, low=0, high=0, n=20))
    >>> rate.low, round(rate.high, 3)
    (0.0, 0.168)
    """
    if rate.low < rate.high or rate.n == 0 or not 0 <= rate.value <= 1:
        return rate
    exact = clopper_pearson(round(rate.value * rate.n), rate.n)
    return rate.replace(low=min(exact.low, rate.value), high=max(exact.high, rate.value))


def mcnemar_exact(correct_a: ArrayLike, correct_b: ArrayLike) -> float:
    """The chance of a split at least this uneven of the images that exactly one of two models got right.

    Args:
        correct_a, correct_b: (N,) bool, whether each model was right on the same images.
    Returns:
        The two-sided exact p-value in (0, 1]; 1.0 where the models are right on the same images.
    Raises:
        UsageError: the two differ in length.
    Source: Q. McNemar, Psychometrika 12 (1947); the exact binomial form on discordant pairs.
    >>> mcnemar_exact([True] * 6, [False] * 6)
    0.03125
    """
    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    same_length(a, b)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return min(1.0, 2.0 * _coin(min(only_a, only_b), only_a + only_b))


def bootstraps(
    statistics: Sequence[Statistic],
    labels: ArrayLike,
    predicted: ArrayLike,
    classes: int,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[Rate, ...]:
    """Statistics of one model, over the same resamples, with their percentile bootstrap intervals.

    Resampled are the images of each class, or where `resamples_classes` says so the classes: then each statistic must
    be a mean over classes.

    Args:
        statistics: from counts (R, C) to values (R,); each works on (C,) too.
        labels, predicted: (N,) class numbers. classes: C. resamples: R.
    Returns:
        Of each the value on all images, the 2.5 and 97.5 percentiles over the resamples, N. Where every resample is
        equal (all images right, say), the interval of Clopper and Pearson.
    Raises:
        Undefined: no image. UsageError: not the same images, or a number that is no class.
    Source: B. Efron and R. Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.
    """
    observed = tally(labels, predicted, classes)
    blocks = _resampled(np.asarray(labels), [np.asarray(predicted)], classes, seed, resamples)
    drawn = [[statistic(counts) for statistic in statistics] for (counts,) in blocks]
    n = int(observed.labelled.sum())
    return tuple(
        not_a_point(_percentiles(float(statistic(observed)), np.concatenate(values), n))
        for statistic, values in zip(statistics, zip(*drawn, strict=True), strict=True)
    )


def resamples_classes(images: int, classes: int) -> bool:
    """Return whether a bootstrap must resample classes, because that of the images of each is too narrow.

    A class with n images varies in resamples by (n - 1) / n of its variance, not at all with one image. Of simulated
    test sets of 1,000 classes (accuracies of Beta(4, 1)), intervals over images held the expected macro-F1 in 44, 59,
    75, 83 and 93 % with 2, 3, 5, 10 and 20 images a class, those over classes in 91 to 100 %. Below 20 classes neither
    holds.

    >>> [resamples_classes(images, classes) for images, classes in ((4, 4), (40, 20), (500, 100), (10_000, 1_000))]
    [False, True, False, True]
    """
    return classes >= 20 and (images < 5 * classes or 50 * images < classes**2)


def paired_bootstrap(
    statistic: Statistic,
    labels: ArrayLike,
    predicted: tuple[ArrayLike, ArrayLike],
    classes: int,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Rate:
    """The difference of a statistic between two models, a - b, with its bootstrap interval over shared images.

    Both models are scored on the same resampled images, so what makes an image hard for both cancels.

    Args, Raises, Source: as `bootstraps`; predicted: model a's and model b's (N,).
    Returns:
        The difference on all images in [-1, 1] for a share, its 2.5 and 97.5 percentiles, N.
    >>> hit_rate = lambda counts: counts.hits.sum(-1) / counts.labelled.sum(-1)
    >>> paired_bootstrap(hit_rate, [0, 0, 1, 1], ([0, 0, 1, 1], [0, 0, 0, 0]), classes=2).value
    0.5
    """
    a, b = (tally(labels, guess, classes) for guess in predicted)
    guesses = [np.asarray(guess) for guess in predicted]
    blocks = _resampled(np.asarray(labels), guesses, classes, seed, resamples)
    drawn = np.concatenate([statistic(of_a) - statistic(of_b) for of_a, of_b in blocks])
    return _percentiles(float(statistic(a)) - float(statistic(b)), drawn, int(a.labelled.sum()))


def _resampled(
    labels: NDArray[np.int64], predicted: list[NDArray[np.int64]], classes: int, seed: int, resamples: int
) -> Iterator[list[Tally]]:
    """The counts of each model in a block of resamples after another: one block, unless there are very many classes."""
    if labels.size == 0:
        raise Undefined("a statistic of no images is undefined")
    if resamples_classes(labels.size, len(np.unique(labels))):
        yield from _classes_drawn([tally(labels, guess, classes) for guess in predicted], seed, resamples)
        return
    if resamples * classes <= CELLS:
        yield _resample(labels, predicted, classes, seed, resamples)
        return
    present, numbers = np.unique(np.concatenate([labels, *predicted]), return_inverse=True)
    order = np.argsort(labels, kind="stable")
    truth, *guesses = numbers.reshape(1 + len(predicted), -1)[:, order]
    labelled = np.bincount(truth, minlength=len(present))
    begin, size = (np.cumsum(labelled) - labelled)[truth], labelled[truth]
    generator, step = np.random.default_rng(seed), max(1, CELLS // (4 * len(present)))
    for first in range(0, resamples, step):
        count = min(step, resamples - first)
        picks = begin + (generator.random((count, len(truth))) * size).astype(np.int64)  # of the same class each
        yield [_counted(truth, guess[picks], labelled) for guess in guesses]


def _classes_drawn(counts: list[Tally], seed: int, resamples: int) -> Iterator[list[Tally]]:
    """The counts of each model in classes drawn with replacement from those that have an image."""
    present = np.flatnonzero(counts[0].labelled)
    few = [Tally(one.hits[present], one.labelled[present], one.predicted[present]) for one in counts]
    generator, step = np.random.default_rng(seed), max(1, CELLS // (4 * len(present)))
    for first in range(0, resamples, step):
        picks = generator.integers(0, len(present), (min(step, resamples - first), len(present)))
        yield [Tally(one.hits[picks], one.labelled[picks], one.predicted[picks]) for one in few]


def _counted(truth: NDArray[np.int64], drawn: NDArray[np.int64], labelled: NDArray[np.int64]) -> Tally:
    """Count what was drawn, (R, N) predictions of images whose classes are (N,)."""
    shape = len(drawn), len(labelled)
    places = drawn + np.arange(len(drawn))[:, None] * len(labelled)
    right, size = places[drawn == truth], shape[0] * shape[1]
    return Tally(
        hits=np.bincount(right, minlength=size).reshape(shape).astype(np.int64),
        labelled=labelled,
        predicted=np.bincount(places.ravel(), minlength=size).reshape(shape).astype(np.int64),
    )


def _resample(
    labels: NDArray[np.int64], predicted: list[NDArray[np.int64]], classes: int, seed: int, resamples: int
) -> list[Tally]:
    """The counts of each model in each resample, (R, C); the labelled counts are (C,), the same in all.

    Images of one class with the same predictions are interchangeable: drawn is how often each such group occurs.
    """
    generator = np.random.default_rng(seed)
    labelled = np.bincount(labels, minlength=classes)
    hits = [np.zeros((resamples, classes), dtype=np.int64) for _ in predicted]
    guessed = [np.zeros((resamples, classes), dtype=np.int64) for _ in predicted]
    for label in np.flatnonzero(labelled):
        rows = np.stack([guess[labels == label] for guess in predicted], axis=1)  # (n, models)
        groups, sizes = np.unique(rows, axis=0, return_counts=True)  # (G, models), (G,)
        drawn = generator.multinomial(sizes.sum(), sizes / sizes.sum(), size=resamples)  # (R, G)
        for model, guesses in enumerate(groups.T):
            for guess in np.unique(guesses):
                times = drawn[:, guesses == guess].sum(axis=1)
                guessed[model][:, guess] += times
                if guess == label:
                    hits[model][:, label] = times
    return [Tally(hit, labelled, guess) for hit, guess in zip(hits, guessed, strict=True)]


def _percentiles(value: float, resampled: NDArray[np.float64], n: int) -> Rate:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Rate(value=value, low=float(low), high=float(high), n=n)


def class_numbers(values: ArrayLike, classes: int, name: str) -> NDArray[np.int64]:
    """Check a (N,) array of class numbers in [0, classes)."""
    numbers = np.asarray(values)
    if numbers.size == 0:
        return np.zeros(0, dtype=np.int64)
    if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer):
        raise UsageError(f"{name}: expected whole numbers (N,), got {numbers.dtype} {numbers.shape}")
    if numbers.min() < 0 or numbers.max() >= classes:
        raise UsageError(f"{name}: expected class numbers in [0, {classes}), got {numbers.min()} to {numbers.max()}")
    return numbers.astype(np.int64)


def same_length(a: NDArray[np.generic], b: NDArray[np.generic]) -> None:
    """Refuse two arrays that do not speak of the same images."""
    if a.shape != b.shape:
        raise UsageError(f"expected one entry an image in both, got {a.shape} and {b.shape}")


def _check_share(k: int, n: int, confidence: float) -> None:
    if n == 0:
        raise Undefined("a share of no cases is undefined")
    if not 0 <= k <= n:
        raise UsageError(f"expected k in [0, n], got k = {k} of n = {n}")
    if not 0 < confidence < 1:
        raise UsageError(f"expected a confidence in (0, 1), got {confidence}")


def _coin(heads: int, throws: int) -> float:
    """The chance of at most so many heads in throws of a fair coin."""
    if throws <= 1000:
        return float(sum(math.comb(throws, count) for count in range(heads + 1)) / 2**throws)
    return float(beta_cdf(0.5, throws - heads, heads + 1))


def normal_quantile(share: float) -> float:
    """Return where the standard normal distribution reaches a share, in [0, 1]; infinite at both ends.

    >>> round(normal_quantile(0.975), 6)
    1.959964
    """
    if share in (0, 1):
        return math.inf if share else -math.inf
    return NormalDist().inv_cdf(share)


def beta_cdf(x: float, a: float, b: float) -> float:
    """Return the share of the beta distribution (a, b above 0) below x, the regularized incomplete beta function.

    Source: the continued fraction of DLMF 8.17.22, by Lentz's method.
    >>> beta_cdf(0.5, 2, 2)
    0.5
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cdf(1 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for factor in (even, odd):
            d, c = 1 / _not_zero(1 + factor * d), _not_zero(1 + factor / c)
            value *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return math.exp(front) * value / a


def beta_quantile(a: float, b: float, share: float) -> float:
    """Return where the beta distribution reaches a share in [0, 1]: the inverse of `beta_cdf`, by halving."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if beta_cdf(middle, a, b) < share:
            low = middle
        else:
            high = middle
    return high


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
