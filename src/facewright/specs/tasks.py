"""Targets of a network in place of classes: attributes, numbers, votes, or several of them."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from facewright.specs import Spec

NumberHead = Literal["l1", "huber", "dex", "coral"]


class NumberSpec(Spec):
    """A number to predict (age, yaw, quality). What is None is measured: `error` on validation, others on training."""

    head: NumberHead = "l1"
    """One score by absolute or Huber's error; the expected value over bins (DEX, Rothe et al. 2015); ordinal (CORAL,
    Cao et al. 2020)."""
    bins: int = Field(61, ge=2, le=2000)  # dex, coral: over [low, high], the outer ones centred there
    delta: float = Field(0.1, gt=0, le=1000)  # huber: where squares end, in halves of the range
    level: float = Field(0.9, ge=0.01, le=0.999)  # share of images whose prediction interval is to hold the truth
    tolerance: float = Field(5.0, ge=0, le=1e9)  # of the cumulative score, in the number's units
    low: float | None = Field(None, ge=-1e9, le=1e9)
    high: float | None = Field(None, ge=-1e9, le=1e9)
    median: float | None = None  # the constant prediction to compare with
    error: float | None = Field(None, ge=0)  # half the width of the prediction intervals
    calibrated: int | None = Field(None, ge=1)  # validation images that `error` is fitted on

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"expected low below high, got {self.low:g} and {self.high:g}")
        return self

    @property
    def scores(self) -> int:
        """The number of scores that a network gives for it."""
        return {"dex": self.bins, "coral": self.bins - 1}.get(self.head, 1)

    @property
    def ends(self) -> tuple[float, float]:
        """The values of the first and the last bin."""
        assert self.low is not None and self.high is not None, "measured before it is used"
        return self.low, self.high


class Target(Spec):
    """One thing to predict of an image; unknown of some images."""

    name: str = Field(min_length=1, max_length=200)  # of a column of the data; of votes any
    kind: Literal["attribute", "number", "classes", "votes"]  # attribute: yes or no
    number: NumberSpec | None = None  # None: no number
    classes: tuple[str, ...] = Field((), max_length=10_000)  # of votes also the columns of their counts
    weight: float = Field(1.0, gt=0, le=1e6)  # of its loss beside those of others

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        if (self.number is not None) != (self.kind == "number"):
            raise ValueError(f"{self.name}: a target of the kind number has a table number, and no other has")
        return self

    @property
    def scores(self) -> tuple[str, ...]:
        """The names of the scores that a network gives for it; of an attribute the logit of yes."""
        count = 1 if self.number is None else self.number.scores
        return self.values if count == 1 else tuple(f"{self.name} {k}" for k in range(1, count + 1))

    @property
    def values(self) -> tuple[str, ...]:
        """The names of what the scores mean: a probability of yes or of each class, or the number."""
        return tuple(f"{self.name}: {one}" for one in self.classes) or (self.name,)

    @property
    def truths(self) -> tuple[str, ...]:
        """The names of the numbers of its truth: one, or of votes a count for each class."""
        return self.values if self.kind == "votes" else (self.name,)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the data that hold it."""
        return self.classes if self.kind == "votes" else (self.name,)


class TargetColumns(NamedTuple):
    """A target and its columns in the three tables of a task."""

    target: Target
    scores: slice  # of the network's scores
    truth: slice
    values: slice  # of probabilities and numbers


class TaskSpec(Spec):
    """Targets of a network in place of classes, in the order of its scores.

    >>> TaskSpec(targets=({"name": "smiling", "kind": "attribute"},)).scores
    ('smiling',)
    """

    targets: tuple[Target, ...] = Field(min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [target.name for target in self.targets]
        if len(set(names)) < len(names):
            raise ValueError(f"expected each target once, got {', '.join(names)[:200]}")
        return self

    @property
    def scores(self) -> tuple[str, ...]:
        """The names of all scores."""
        return tuple(name for target in self.targets for name in target.scores)

    @property
    def values(self) -> tuple[str, ...]:
        """The names of all values: probabilities and numbers."""
        return tuple(name for target in self.targets for name in target.values)

    @property
    def truths(self) -> tuple[str, ...]:
        """The names of the columns of the truth."""
        return tuple(name for target in self.targets for name in target.truths)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the data that hold the targets."""
        return tuple(name for target in self.targets for name in target.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the targets."""
        return tuple(target.name for target in self.targets)

    @cached_property
    def parts(self) -> tuple[TargetColumns, ...]:
        """The targets with their columns."""
        ends, at = [[0, 0, 0]], [0, 0, 0]
        for one in self.targets:
            at = [end + len(names) for end, names in zip(at, (one.scores, one.truths, one.values), strict=True)]
            ends.append(at)
        return tuple(
            TargetColumns(target, *(slice(a, b) for a, b in zip(start, end, strict=True)))
            for target, (start, end) in zip(self.targets, pairwise(ends), strict=True)
        )

    def of_kind(self, kind: str) -> tuple[TargetColumns, ...]:
        """Return the targets of a kind with their columns."""
        return tuple(part for part in self.parts if part.target.kind == kind)

    @property
    def tied(self) -> tuple[slice, ...]:
        """The runs of scores that differ by their biases alone: those of ordinal numbers."""
        return tuple(part.scores for part in self.of_kind("number") if part.target.number.head == "coral")  # type: ignore[union-attr]
