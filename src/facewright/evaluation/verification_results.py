"""What an evaluation of a verifier says; `to_dict` is what `pairs --json` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from facewright.errors import UsageError
from facewright.metrics.intervals import Rate


@dataclass(frozen=True)
class TarAtFar:
    """The true-accept rate at a target for the false-accept rate."""

    far: float  # the target
    achieved: float  # at most the target
    achieved_interval: Rate  # Clopper-Pearson
    tar: Rate  # Clopper-Pearson
    tar_by_identity: Rate | None  # bootstrap over people, n is theirs; None: not known who is in the pairs
    impostors: int
    threshold: float | None  # None: accept nothing, for the highest scores are too many impostors that tie


@dataclass(frozen=True)
class Folds:
    """Accuracy over folds; each fold at the threshold that was best on the others."""

    mean: float
    standard_error: float  # std / sqrt(folds)
    std: float  # over folds, sample
    accuracies: tuple[float, ...]
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class VerificationResult:
    """Same person or not. None: undefined, or not asked for."""

    genuine: int  # pairs with a score
    impostors: int
    people: int | None
    failures: int  # pairs without a score
    failed_pairs: tuple[int, ...]  # their indices
    chosen: str | None  # how the threshold of the accuracy was chosen
    accuracy: Rate | None  # Clopper-Pearson; failures count as errors unless they were left out
    accuracy_by_identity: Rate | None  # bootstrap over people, at the same thresholds
    folds: Folds | None
    eer: float  # this and what follows: over the pairs with a score
    eer_low: float  # the lesser of FAR and FRR there
    eer_high: float
    eer_threshold: float
    eer_by_identity: Rate | None
    auc: float
    tar_at_far: tuple[TarAtFar, ...]
    thresholds: tuple[float | None, ...]  # rows of the exact ROC, thinned; None: accept nothing
    far: tuple[float, ...]
    tar: tuple[float, ...]
    histogram_edges: tuple[float, ...]  # B + 1; what lies beyond is counted in the first and the last bin
    histogram_genuine: tuple[int, ...]  # B
    histogram_impostors: tuple[int, ...]
    worst_false_accepts: tuple[int, ...]  # indices of impostor pairs, the highest score first
    worst_false_rejects: tuple[int, ...]  # indices of genuine pairs, the lowest score first

    def to_dict(self) -> dict[str, Any]:
        facts = asdict(self)
        if self.folds is not None:
            facts["folds"] = {name: _list(value) for name, value in facts["folds"].items()}
        return {"task": "verification"} | {name: _list(value) for name, value in facts.items()}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> VerificationResult:
        """The inverse of `to_dict`; raises UsageError where the facts are of another task or incomplete."""
        if facts.get("task") != "verification":
            raise UsageError(f"expected the facts of a verification, got task {facts.get('task')!r}")
        missing = [field.name for field in fields(cls) if field.name not in facts]
        if missing:
            raise UsageError(f"the facts of a verification lack {', '.join(missing)}: measure the pairs again")
        values = {field.name: _tuple(facts[field.name]) for field in fields(cls)}
        for name in ("accuracy", "accuracy_by_identity", "eer_by_identity"):
            values[name] = _rate(values[name])
        folds = facts["folds"]
        if folds is not None:
            values["folds"] = Folds(**{name: _tuple(value) for name, value in folds.items()})
        values["tar_at_far"] = tuple(
            TarAtFar(**{**row, **{name: _rate(row[name]) for name in ("achieved_interval", "tar", "tar_by_identity")}})
            for row in facts["tar_at_far"]
        )
        return cls(**values)


def _list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _rate(facts: Mapping[str, float | int] | None) -> Rate | None:
    return None if facts is None else Rate.from_dict(facts)
