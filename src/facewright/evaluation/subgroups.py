"""Error rates of a verifier within groups of people, at one threshold for all.

Source: ISO/IEC 19795-10:2024 (false match and false non-match rates of demographic groups at a global threshold);
NIST IR 8280, 2019, annex 6 (the ratio of the worst to the best group).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import UsageError
from facewright.metrics.intervals import Rate, clopper_pearson
from facewright.records import Record


class SubgroupRates(Record):
    """One group: pairs of two images that both belong to it."""

    group: str
    fmr: Rate | None  # false match rate, of its impostor pairs; None: it has none
    fnmr: Rate | None  # false non-match rate, of its genuine pairs


class Subgroups(Record):
    """All groups of a column, at one threshold."""

    frame_rows: ClassVar[str | None] = "groups"
    column: str
    threshold: float
    threshold_of: str  # how it was chosen
    groups: tuple[SubgroupRates, ...]  # by name
    fmr_ratio: float | None  # the highest rate over the lowest; None: fewer than two groups, or the lowest is 0
    fnmr_ratio: float | None
    across: int  # scored pairs of two groups, in no row
    unknown: int  # scored pairs with an image whose group is not known, in no row
    limits: tuple[str, ...]  # what these counts cannot show


def rates_by_group(
    scores: ArrayLike, same: ArrayLike, groups: Sequence[tuple[str, str]], threshold: float, column: str, chosen: str
) -> Subgroups:
    """Compute FMR and FNMR of each group at one threshold.

    Args:
        scores: (P,) cosines; NaN for a pair without a score, which has no part.
        same: (P,) true for pairs of one person.
        groups: P pairs of the groups of both images; "" is unknown.
        threshold: a pair is accepted from this score on.
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
    return Subgroups(
        column=column,
        threshold=threshold,
        threshold_of=chosen,
        groups=rows,
        fmr_ratio=_ratio([row.fmr for row in rows]),
        fnmr_ratio=_ratio([row.fnmr for row in rows]),
        across=int((scored & known & (within == "")).sum()),
        unknown=int((scored & ~known).sum()),
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
    lines = []
    for name, rates in (
        ("FMR", [(row.group, row.fmr) for row in rows]),
        ("FNMR", [(row.group, row.fnmr) for row in rows]),
    ):
        known = [(group, rate) for group, rate in rates if rate is not None]
        for group, rate in rates:
            if rate is None:
                lines.append(f"{name} of {group}: no such pair")
            elif rate.value == 0:
                lines.append(
                    f"{name} of {group}: no error among {rate.n:,} pairs, where {100 * rate.high:.2g} % is possible"
                )
        if len(known) > 1 and max(rate.low for _, rate in known) <= min(rate.high for _, rate in known):
            lines.append(f"{name}: all intervals overlap; these pairs do not show that the groups differ")
    return lines
