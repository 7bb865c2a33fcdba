"""Error rates within groups of people, at one threshold for all: of a verifier over pairs, of a classifier over images.

Source: ISO/IEC 19795-10:2024 (false match and false non-match rates of demographic groups at a global threshold);
NIST IR 8280, 2019, annex 6 (the ratio of the worst to the best group).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import UsageError
from facewright.metrics.intervals import Rate, clopper_pearson, complement
from facewright.records import Record

_BLOCK = 512  # rows compared with all at a time


class SubgroupRates(Record):
    """One group: pairs of two images that both belong to it, or its images."""

    group: str
    fmr: Rate | None  # false match rate, of its impostor pairs; FAR of a classifier of two classes; None: it has none
    fnmr: Rate | None  # false non-match rate, of its genuine pairs; FRR of a classifier of two classes
    accuracy: Rate | None = None  # of a classifier


class Subgroups(Record):
    """All groups of a column, at one threshold. Ratios are None for fewer than two groups, or if the lowest is 0."""

    frame_rows: ClassVar[str | None] = "groups"
    column: str
    threshold: float | None  # None: a classifier of several classes
    threshold_of: str  # how it was chosen
    groups: tuple[SubgroupRates, ...]  # by name
    fmr_ratio: float | None  # the highest rate over the lowest
    fnmr_ratio: float | None
    across: int  # scored pairs of two groups, in no row
    unknown: int  # scored pairs with an image whose group is not known, or such images, in no row
    limits: tuple[str, ...]  # what these counts cannot show
    error_ratio: float | None = None  # of a classifier: of 1 - accuracy, the highest over the lowest

    @property
    def rates(self) -> dict[str, str]:
        """The rates that some group has: their fields in `SubgroupRates` and titles."""
        of_images = any(row.accuracy is not None for row in self.groups)
        fmr, fnmr = ("FAR", "FRR") if of_images else ("false match rate", "false non-match rate")
        titles = {"accuracy": "accuracy", "fmr": fmr, "fnmr": fnmr}
        return {name: title for name, title in titles.items() if any(getattr(row, name) for row in self.groups)}

    @property
    def ratios(self) -> dict[str, float | None]:
        """The ratio of the worst to the best group of each of `rates`; of an accuracy that of its error."""
        ratios = {"accuracy": self.error_ratio, "fmr": self.fmr_ratio, "fnmr": self.fnmr_ratio}
        return {name: ratios[name] for name in self.rates}

    @property
    def left_out(self) -> str:
        """Say in words what is in no row."""
        if any(row.accuracy is not None for row in self.groups):
            return f"{self.unknown:,} {'image' if self.unknown == 1 else 'images'} of unknown group in no row"
        return f"{self.across:,} pairs of two groups and {self.unknown:,} of unknown group are in no row"


def rates_by_group(
    scores: ArrayLike, same: ArrayLike, groups: Sequence[tuple[str, str]], threshold: float, column: str, chosen: str
) -> Subgroups:
    """Compute FMR and FNMR of each group at one threshold.

    Args:
        scores: (P,) cosines; NaN for a pair without a score, which has no part. same: (P,) true for one person.
        groups: P pairs of the groups of both images; "" is unknown.
        column: the name of the groups. chosen: how the threshold was chosen, in words.
    Raises:
        UsageError: lengths differ, or no pair lies within one group.
    """
    values, genuine = np.asarray(scores, np.float64), np.asarray(same, np.bool_)
    if not values.shape == genuine.shape == (len(groups),):
        raise UsageError(
            f"expected one score, truth and group a pair, got {values.shape}, {genuine.shape}, {len(groups)}"
        )
    scored = ~np.isnan(values)
    within = np.array([a if a == b else "" for a, b in groups], np.str_)
    known = np.array([bool(a and b) for a, b in groups], np.bool_)
    names = sorted(set(within[scored].tolist()) - {""})
    if not names:
        raise UsageError(f"{column}: no scored pair shows two images of one group")
    rows = tuple(_row(name, values, genuine, scored & (within == name), threshold) for name in names)
    across = int((scored & known & (within == "")).sum())
    return _subgroups(rows, column, (threshold, chosen), across, int((scored & ~known).sum()))


def rates_of_all_pairs(
    vectors: NDArray[np.float32],
    people: NDArray[np.str_],
    groups: Sequence[str],
    threshold: float,
    column: str,
    chosen: str,
) -> Subgroups:
    """Compute `rates_by_group` over every pair of images, a block at a time.

    Args: as `rates_by_group`, of (N, D) unit vectors, N people and N groups.
    Raises:
        UsageError: no group has two images.
    """
    of = np.array(groups, np.str_)
    names, counts = np.unique(of[of != ""], return_counts=True)
    if not (counts > 1).any():
        raise UsageError(f"{column}: no group has two images")
    rows = tuple(
        _counted(str(name), vectors[of == name], people[of == name], threshold) for name in names[counts > 1].tolist()
    )
    known = int(counts.sum())
    within = int((counts * (counts - 1) // 2).sum())
    across, pairs = known * (known - 1) // 2 - within, len(of) * (len(of) - 1) // 2
    return _subgroups(rows, column, (threshold, chosen), across, pairs - known * (known - 1) // 2)


def _counted(name: str, vectors: NDArray[np.float32], people: NDArray[np.str_], threshold: float) -> SubgroupRates:
    genuine = impostors = rejected = accepted = 0
    for start in range(0, len(vectors), _BLOCK):
        stop = min(start + _BLOCK, len(vectors))
        later = np.arange(len(vectors))[None] > np.arange(start, stop)[:, None]  # each pair once
        same = (people[start:stop, None] == people[None]) & later
        reached = (vectors[start:stop] @ vectors.T) >= threshold
        genuine += int(same.sum())
        impostors += int(later.sum()) - int(same.sum())
        rejected += int((same & ~reached).sum())
        accepted += int((later & ~same & reached).sum())
    return SubgroupRates(
        group=name,
        fmr=clopper_pearson(accepted, impostors) if impostors else None,
        fnmr=clopper_pearson(rejected, genuine) if genuine else None,
    )


def rates_of_images(
    right: ArrayLike,
    groups: Sequence[str],
    column: str,
    two_classes: tuple[ArrayLike, ArrayLike, float, str] | None = None,
) -> Subgroups:
    """Compute the accuracy of a classifier in each group; of two classes also FAR and FRR at one threshold.

    Args:
        right: (N,) true where the predicted class is the image's. groups: N names; "" is unknown.
        column: the name of the groups.
        two_classes: scores (N,) of the accepted class, (N,) true for its images, the threshold, and how it was chosen.
    Raises:
        UsageError: lengths differ, or no image has a group.
    """
    hits, of = np.asarray(right, np.bool_), np.array(groups, np.str_)
    if hits.shape != of.shape:
        raise UsageError(f"expected a group for each of {hits.size} images, got {of.size}")
    names = sorted(set(of.tolist()) - {""})
    if not names:
        raise UsageError(f"{column}: no image has a group")
    rows = []
    for name in names:
        mine = of == name
        row = SubgroupRates(group=name, fmr=None, fnmr=None)
        if two_classes is not None:
            scores, positive = np.asarray(two_classes[0], np.float64), np.asarray(two_classes[1], np.bool_)
            row = _row(name, scores, positive, mine, two_classes[2])
        rows.append(row.replace(accuracy=clopper_pearson(int(hits[mine].sum()), int(mine.sum()))))
    threshold = (None, "") if two_classes is None else (two_classes[2], two_classes[3])
    return _subgroups(tuple(rows), column, threshold, 0, int((of == "").sum()))


def _subgroups(
    rows: tuple[SubgroupRates, ...], column: str, threshold: tuple[float | None, str], across: int, unknown: int
) -> Subgroups:
    errors = [None if row.accuracy is None else complement(row.accuracy) for row in rows]
    return Subgroups(
        column=column,
        threshold=threshold[0],
        threshold_of=threshold[1],
        groups=rows,
        fmr_ratio=_ratio([row.fmr for row in rows]),
        fnmr_ratio=_ratio([row.fnmr for row in rows]),
        error_ratio=_ratio(errors),
        across=across,
        unknown=unknown,
        limits=tuple(_limits(rows)),
    )


def _row(
    name: str, scores: NDArray[np.float64], genuine: NDArray[np.bool_], mine: NDArray[np.bool_], threshold: float
) -> SubgroupRates:
    impostors, mated = scores[mine & ~genuine], scores[mine & genuine]
    return SubgroupRates(
        group=name,
        fmr=clopper_pearson(int((impostors >= threshold).sum()), impostors.size) if impostors.size else None,
        fnmr=clopper_pearson(int((mated < threshold).sum()), mated.size) if mated.size else None,
    )


def _ratio(rates: Sequence[Rate | None]) -> float | None:
    values = [rate.value for rate in rates if rate is not None]
    return max(values) / min(values) if len(values) > 1 and min(values) > 0 else None


def _limits(rows: Sequence[SubgroupRates]) -> list[str]:
    if all(row.accuracy is None for row in rows):
        kinds = {"FMR": [row.fmr for row in rows], "FNMR": [row.fnmr for row in rows]}
        unit = "pair"
    else:
        kinds = {"error": [None if row.accuracy is None else complement(row.accuracy) for row in rows]}
        two = any(row.fmr or row.fnmr for row in rows)
        kinds |= {"FAR": [row.fmr for row in rows], "FRR": [row.fnmr for row in rows]} if two else {}
        unit = "image"
    lines = []
    for name, rates in kinds.items():
        for row, rate in zip(rows, rates, strict=True):
            if rate is None:
                lines.append(f"{name} of {row.group}: no such {unit}")
            elif rate.value == 0:
                possible = f"where {100 * rate.high:.2g} % is possible"
                lines.append(f"{name} of {row.group}: no error among {rate.n:,} {unit}s, {possible}")
        known = [rate for rate in rates if rate is not None]
        if len(known) > 1 and max(rate.low for rate in known) <= min(rate.high for rate in known):
            lines.append(f"{name}: all intervals overlap; these {unit}s do not show that the groups differ")
    return lines
