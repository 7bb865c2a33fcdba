"""The page of a verifier: one self-contained file in the look of the other reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from facewright.evaluation.subgroups import Subgroups
from facewright.evaluation.verification import ErrorVersusReject, VerificationResult
from facewright.images import Pixels
from facewright.metrics.intervals import Rate
from facewright.metrics.thresholds import Threshold
from facewright.metrics.verification import ErrorRates
from facewright.provenance import Origin
from facewright.report import pages, words
from facewright.report import verification_plots as plots
from facewright.report.images import Album
from facewright.report.model_section import Fact
from facewright.report.targets import group_figures

_LISTED = 30  # broken images named


@dataclass(frozen=True)
class ShownPair:
    """Two images by their paths in the data, and their score."""

    a: str
    b: str
    score: float


@dataclass(frozen=True)
class MeasuredThreshold:
    """The threshold that the model holds, and its errors on these pairs."""

    threshold: Threshold
    rates: ErrorRates
    on_its_own: bool  # it was chosen on these pairs


@dataclass(frozen=True)
class PairContext:
    """All that a page says of a list of pairs. Nothing is looked up."""

    result: VerificationResult
    model: str
    pairs: str  # name of the list
    input: str  # what the network was fed, in words
    false_accepts: Sequence[ShownPair]
    false_rejects: Sequence[ShownPair]
    origin: Origin
    thumbnail: Callable[[str], Pixels | None] | None = None  # an image by its path in the data
    stored: MeasuredThreshold | None = None
    subgroups: Subgroups | None = None
    rejection: ErrorVersusReject | None = None
    broken: Sequence[tuple[str, str]] = ()  # images that could not be used, and why
    fingerprint: str = ""
    licence: str | None = None  # of the weights


def pair_page(context: PairContext) -> str:
    """Return the whole page as HTML."""
    result, album = context.result, Album(context.thumbnail)
    facts = {
        "context": context,
        "result": result,
        "sentences": _sentences(context),
        "tiles": tiles_of(result),
        "roc": Markup(plots.roc_figure(result, "roc")),
        "det": Markup(plots.det_figure(result, "det")),
        "histogram": Markup(plots.histogram_figure(result, decisive_threshold(result), "scores")),
        "threshold": decisive_threshold(result),
        "group_figures": [] if context.subgroups is None else group_figures(context.subgroups),
        "rejection": None if context.rejection is None else Markup(plots.reject_figure(context.rejection, "reject")),
        "accepts": [_with_images(pair, album) for pair in context.false_accepts],
        "rejects": [_with_images(pair, album) for pair in context.false_rejects],
        "details": _details(context),
        "listed": _LISTED,
    }
    return pages.render("verification.html", facts, context.origin, {"decimals": _decimals, "points": _points})


def decisive_threshold(result: VerificationResult) -> float:
    """The threshold behind the accuracy (the mean over folds), or that of the EER where there is none."""
    if result.folds is None:
        return result.eer_threshold
    return sum(result.folds.thresholds) / len(result.folds.thresholds)


def _sentences(context: PairContext) -> list[str]:
    """Return what to take away."""
    result, lines = context.result, []
    if result.accuracy is not None:
        people = result.accuracy_by_identity
        by_people = "" if people is None else f", {_points(people)} by people"
        lines.append(
            f"{words.percent(result.accuracy.value, 2)} of {result.accuracy.n:,} pairs are decided rightly (95 % "
            f"interval {_points(result.accuracy)} by pairs{by_people}), {_protocol(result)}."
        )
    lines.append(
        f"The equal error rate is {words.percent(result.eer, 2)}, the area under the ROC {result.auc:.4f}. "
        "Both look at all pairs at once and choose no threshold beforehand."
    )
    strictest = result.tar_at_far[-1] if result.tar_at_far else None
    if strictest is not None:
        lines.append(
            f"The strictest false-accept rate that {result.impostors:,} impostor pairs resolve here is "
            f"{strictest.far:g}: there {words.percent(strictest.tar.value)} of genuine pairs are accepted."
        )
    if result.failures:
        one = result.failures == 1
        lines.append(
            f"{result.failures:,} {'pair has' if one else 'pairs have'} no score because an image could not be used; "
            f"{'it counts as an error' if one else 'they count as errors'} in the accuracy and "
            f"{'is' if one else 'are'} in no other number."
        )
    return lines


def _protocol(result: VerificationResult) -> str:
    """Return how the threshold of the accuracy was chosen, in words."""
    folds = result.folds
    if folds is None:
        return "at a threshold that was chosen on other data"
    if result.chosen is not None and "half" in result.chosen:
        return "each half of the people at the threshold that was best on the other half; pairs across are left out"
    return (
        f"each of {len(folds.accuracies)} folds at the threshold that was best on the others: mean "
        f"{words.percent(folds.mean, 2)}, standard error {100 * folds.standard_error:.2f} points (std / √folds)"
    )


def _points(rate: Rate) -> str:
    return f"{100 * rate.low:.2f} to {100 * rate.high:.2f}"


def tiles_of(result: VerificationResult) -> list[Fact]:
    """Return the headline numbers."""
    tiles = []
    if result.accuracy is not None:
        tiles.append(Fact("Accuracy", words.percent(result.accuracy.value, 2), _points(result.accuracy)))
    by_people = result.eer_by_identity
    tiles.append(Fact("Equal error rate", words.percent(result.eer, 2), _points(by_people) if by_people else ""))
    tiles.append(Fact("Area under the ROC", f"{result.auc:.4f}"))
    for row in (row for row in result.tar_at_far if row.far <= 0.01):
        name = f"TAR at FAR {words.percent(row.far, _decimals(row.far))}"
        tiles.append(Fact(name, words.percent(row.tar.value), _points(row.tar)))
    return tiles


def _decimals(share: float) -> int:
    """Decimals of a percentage that show a small share.

    >>> _decimals(0.1), _decimals(0.001), _decimals(1e-05)
    (0, 1, 3)
    """
    return max(0, len(f"{share:.12f}".rstrip("0").partition(".")[2]) - 2)


def _details(context: PairContext) -> list[Fact]:
    result = context.result
    facts = [
        Fact("Genuine pairs", f"{result.genuine:,}"),
        Fact("Impostor pairs", f"{result.impostors:,}"),
        Fact("People", "not known" if result.people is None else f"{result.people:,}"),
        Fact("Failures to acquire", f"{result.failures:,}", "pairs without a score"),
        Fact("Input", context.input),
        Fact("Threshold", f"{decisive_threshold(result):.4f}", result.chosen or "at the equal error rate"),
    ]
    if context.licence is not None:
        facts.append(Fact("Licence of the weights", context.licence))
    if result.folds is not None:
        low, high = min(result.folds.thresholds), max(result.folds.thresholds)
        facts.append(Fact("Thresholds of the folds", f"{low:.4f} to {high:.4f}"))
    return facts


def _with_images(pair: ShownPair, album: Album) -> dict[str, object]:
    first, second = ({"path": path, "name": Path(path).name, "uri": album.uri(path)} for path in (pair.a, pair.b))
    return {"first": first, "second": second, "score": pair.score}
