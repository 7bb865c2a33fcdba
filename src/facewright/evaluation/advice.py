"""Sentences on which model to take, every one derived from measured numbers.

Models that are not measurably worse than the first are treated as equals, and among equals the faster or the smaller
one is advised. With few test images a gap of several points can hide in the noise, so the gap is always said.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facewright.evaluation.results import Entry, Pair
from facewright.events import EpochRow
from facewright.metrics.intervals import Rate

REACHED = 0.95  # of its own best validation accuracy: where a model counts as trained
UNEQUAL = 2  # times as many images in the larger of two classes: from there on accuracy misleads
CLOSE = 1.1  # a ratio of times or sizes below this is called about the same


def advise(entries: Sequence[Entry], pairs: Sequence[Pair]) -> tuple[str, ...]:
    """Say which model to take for accuracy, for speed, for size, and which was easy to train.

    Args:
        entries: at least one, tested on the same images. pairs: every two of them.
    Returns:
        Plain sentences in that order, then what limits them; names of models stand in them as they are, not escaped.
    """
    trained = [entry for entry in entries if converged(entry.history)]
    rising = _not_converged([entry for entry in entries if entry not in trained])
    if not trained:
        return (rising, *_limits(entries))
    best = ranking(trained)[0]
    sentences = [_unequal(trained), _accuracy(best, trained, pairs), rising]
    if len(trained) == 1 and rising:
        sentences = [
            rising,
            _unequal(trained),
            f"{best.name} got {_share(best.test.accuracy)}: no advice from one model.",
        ]
    useful = _better_than_guessing(trained)
    if not _is_one_network(useful):
        sentences += [_speed(best, useful, pairs), _size(best, useful, pairs)]
    sentences += [*_training(useful), _guessing(trained, useful), *_limits(entries)]
    return tuple(sentence for sentence in sentences if sentence)


def ranking(entries: Sequence[Entry]) -> list[Entry]:
    """Entries by test accuracy, best first; equal ones by log loss."""
    return sorted(entries, key=lambda entry: (-entry.test.accuracy.value, entry.test.log_loss))


def reached(history: Sequence[EpochRow], share: float = REACHED) -> EpochRow | None:
    """The first epoch whose validation accuracy is at least this share of the best; None: never above 0."""
    best = max((row.validation_accuracy for row in history), default=0.0)
    if best <= 0:
        return None
    return next(row for row in history if row.validation_accuracy >= share * best)


def validation_volatility(history: Sequence[EpochRow]) -> float | None:
    """Return the mean change of the validation accuracy by epoch over the last half; None: fewer than four epochs."""
    if len(history) < 4:
        return None
    late = [row.validation_accuracy for row in history[len(history) // 2 :]]
    return float(np.abs(np.diff(late)).mean())


def converged(history: Sequence[EpochRow]) -> bool:
    """Return False where the validation loss still falls by more than its own noise in the last fifth of the epochs.

    A line is fitted to the losses of the last fifth, of three epochs at least; its fall over them is compared with the
    standard deviation around it and with 1 % of the loss, since a smooth curve has no noise. Of two epochs the fall
    alone counts. One epoch cannot show that the loss has stopped falling; a linear probe has one row and is solved.

    Source: docs/protocols.md, "Comparison". Deviation: the 1 %.
    """
    losses = np.array([row.validation_loss for row in history[-max(3, -(-len(history) // 5)) :]])
    if len(losses) < 2:
        return all(row.phase == "probe" for row in history)
    epochs = np.arange(len(losses))
    slope, start = np.polyfit(epochs, losses, 1)
    noise = float(np.std(losses - (start + slope * epochs)))
    return bool(-slope * (len(losses) - 1) <= max(noise, 0.01 * abs(losses[-1])))


def baseline(entry: Entry) -> float:
    """Return the accuracy of always naming the class with the most test images."""
    return int(np.bincount(entry.predictions.labels).max()) / entry.test.n


def _not_converged(entries: Sequence[Entry]) -> str:
    if not entries:
        return ""
    epochs = _join([f"{entry.name} (epoch {entry.history[-1].epoch})" for entry in entries])
    reasons = {
        "one epoch cannot show it" if len(entry.history) == 1 else "the validation loss fell" for entry in entries
    }
    why = " or ".join(sorted(reasons, reverse=True))
    return f"Not converged: {epochs}; {why}. Train longer: the advice leaves such models out."


def _accuracy(best: Entry, entries: Sequence[Entry], pairs: Sequence[Pair]) -> str:
    first = _share(best.test.accuracy)
    others = [entry for entry in ranking(entries) if entry is not best]
    if not others:
        return f"{best.name} got {first}; there is no second model to compare it with."
    equals = [entry for entry in others if _pair(best, entry, pairs).within_noise]
    worse = [entry for entry in others if not _pair(best, entry, pairs).within_noise]
    if not equals:
        tested = [_pair(best, entry, pairs) for entry in worse]
        p = max(pair.p_value if pair.holm_p_value is None else pair.holm_p_value for pair in tested)
        chance = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
        return f"For accuracy take {best.name}: {first}, better than {_names(worse)} by more than chance ({chance})."
    rest = f" {_names(worse)} {'is' if len(worse) == 1 else 'are'} worse by more than chance." if worse else ""
    behind = [(entry.name, _gap(best, entry)) for entry in equals]
    gaps = _join([f"{name} ({f'{_points(gap)} behind' if gap else 'equal'})" for name, gap in behind])
    return (
        f"For accuracy {best.name} came first with {first}, with no measurable difference from {gaps}."
        f"{rest} {_among([best, *equals])}"
    )


def _share(rate: Rate) -> str:
    interval = f"95 % interval {_percent(rate.low)} to {_percent(rate.high)}"
    return f"{_percent(rate.value)} of {rate.n:,} test images right ({interval})"


def _unequal(entries: Sequence[Entry]) -> str:
    """Of two classes of unequal size: who is best by the error that weighs them alike; empty for other tasks."""
    measured = [(entry.test.binary, entry) for entry in entries if entry.test.binary is not None]
    if len(measured) < len(entries):
        return ""
    (first, best), *others = sorted(measured, key=lambda pair: pair[0].hter.value)
    if max(first.positives, first.negatives) < UNEQUAL * min(first.positives, first.negatives):
        return ""
    sizes = f"{first.rejected}: {first.negatives:,}, {first.accepted}: {first.positives:,} test images"
    found = f"{_percent(first.hter.value)} (95 % interval {_percent(first.hter.low)} to {_percent(first.hter.high)})"
    why = f"The classes are of unequal size ({sizes}), so accuracy rewards the larger one: by half total error rate"
    if not others:
        return f"{why} {best.name} has {found}."
    rest = _join([f"{entry.name} ({_percent(result.hter.value)})" for result, entry in others])
    near = [entry for result, entry in others if result.hter.low <= first.hter.high]
    noise = f"; the intervals overlap with that of {_names(near)}" if near else ""
    return f"{why} {best.name} came first with {found}, before {rest}{noise}."


def _better_than_guessing(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Models worth advising for speed or size; all of them where fewer than two are."""
    learnt = [entry for entry in entries if entry.test.accuracy.low > baseline(entry)]
    return learnt if len(learnt) > 1 else entries


def _guessing(entries: Sequence[Entry], useful: Sequence[Entry]) -> str:
    rest = [entry for entry in entries if entry not in useful]
    if not rest:
        return ""
    told = _join([f"{entry.name} ({_percent(entry.test.accuracy.value)})" for entry in rest])
    return (
        f"{told} did no better than always naming the largest class would ({_percent(baseline(rest[0]))}), and "
        f"{'has' if len(rest) == 1 else 'have'} no part in what is said of speed, size and training."
    )


def _is_one_network(entries: Sequence[Entry]) -> bool:
    """Tell whether the models differ only in how they were trained: then their latencies differ by chance alone."""
    return len({(entry.model, entry.image_size, entry.parameters, entry.flops) for entry in entries}) == 1


def _among(equals: list[Entry]) -> str:
    if _is_one_network(equals):
        network = f"{equals[0].model} at {equals[0].image_size} px"
        return f"They are one network ({network}), so neither speed nor size decides between them."
    fastest = min(equals, key=lambda entry: entry.latency.median_ms)
    smallest = min(equals, key=lambda entry: (entry.parameters, entry.latency.median_ms))
    if fastest is smallest:
        return (
            f"Among these take {fastest.name}, the fastest and the smallest ({_ms(fastest)}, {_parameters(fastest)})."
        )
    return (
        f"Among these take {fastest.name}, the fastest ({_ms(fastest)}), "
        f"or {smallest.name}, the smallest ({_parameters(smallest)})."
    )


def _speed(best: Entry, entries: Sequence[Entry], pairs: Sequence[Pair]) -> str:
    fastest, second, *_ = sorted(entries, key=lambda entry: entry.latency.median_ms)
    ratio = second.latency.median_ms / fastest.latency.median_ms
    against = (
        f"{second.name} takes about as long ({_ms(second)})"
        if ratio < CLOSE
        else f"{ratio:.1f} times as fast as {second.name}, the next"
    )
    return f"For speed take {fastest.name}: {_ms(fastest)}, {against}{_price(best, fastest, pairs)}."


def _size(best: Entry, entries: Sequence[Entry], pairs: Sequence[Pair]) -> str:
    smallest, second, *_ = sorted(entries, key=lambda entry: entry.parameters)
    ratio = second.parameters / smallest.parameters
    against = (
        f"{second.name} is about as small ({_parameters(second)})"
        if ratio < CLOSE
        else f"{_percent(1 - 1 / ratio, 0)} fewer than {second.name}, the next"
    )
    file = f" ({smallest.file_bytes / 1e6:.1f} MB on disk)"
    return f"For size take {smallest.name}: {_parameters(smallest)}{file}, {against}{_price(best, smallest, pairs)}."


def _price(best: Entry, taken: Entry, pairs: Sequence[Pair]) -> str:
    """Return what taking this model instead of the most accurate one costs."""
    if taken is best:
        return "; it is also the most accurate"
    if _gap(best, taken) == 0:
        return f"; on these images it is right as often as {best.name}"
    verdict = "within noise" if _pair(best, taken, pairs).within_noise else "more than chance"
    return f"; it costs {_points(_gap(best, taken))} of accuracy against {best.name} ({verdict})"


def _training(entries: Sequence[Entry]) -> list[str]:
    courses = [entry for entry in entries if len(entry.history) > 1]  # one look at the end tells of no course
    trained = [(row, entry) for entry in courses if (row := reached(entry.history)) is not None]
    if not trained:
        return []
    trained.sort(key=lambda item: item[0].images_seen)
    row, easiest = trained[0]
    start = f"{easiest.name} reached {REACHED * 100:.0f} % of its own best validation accuracy"
    sentence = f"{start} after {row.images_seen:,} images (epoch {row.epoch} of {easiest.history[-1].epoch})"
    if len(trained) > 1:
        others = _join([f"{entry.name} after {other.images_seen:,}" for other, entry in trained[1:]])
        sentence = f"For ease of training: {sentence}, {others}"
    return [f"{sentence}.", _steadiness([entry for _, entry in trained])]


def _steadiness(entries: list[Entry]) -> str:
    moves = [(move, entry) for entry in entries if (move := validation_volatility(entry.history)) is not None]
    if len(moves) < 2:
        return ""
    moves.sort(key=lambda item: item[0])
    told = _join([f"{entry.name} by {_points(move)}" for move, entry in moves])
    return f"From epoch to epoch in the last half of training, validation accuracy moved for {told}."


def _limits(entries: Sequence[Entry]) -> list[str]:
    """Return what a reader must know before trusting the sentences above."""
    if len(entries) == 1:
        return []
    n = entries[0].test.n
    limits = [f"These tests cover the choice of the {n:,} test images, not the training seed: each model is one run."]
    seen = [entry.images_seen for entry in entries]
    if max(seen) > 1.01 * min(seen):  # a last incomplete batch is no other budget
        told = _join([f"{entry.name} {entry.images_seen:,}" for entry in entries])
        limits.append(f"The budgets differ, and with them what can be concluded: images seen in training were {told}.")
    unlike = [
        f"{what} ({_join([str(value) for value in sorted(values)])})"
        for what, values in (
            ("recipes", {entry.recipe for entry in entries}),
            ("image sizes", {entry.image_size for entry in entries}),
        )
        if len(values) > 1
    ]
    if unlike:
        limits.append(f"The models differ in {_join(unlike)} too: the differences are of all this together.")
    if len({entry.latency.threads for entry in entries}) > 1:
        limits.append("Latencies were measured with different numbers of threads and cannot be compared.")
    return limits


def _pair(a: Entry, b: Entry, pairs: Sequence[Pair]) -> Pair:
    return next(pair for pair in pairs if {pair.a, pair.b} == {a.name, b.name})


def _gap(best: Entry, other: Entry) -> float:
    return best.test.accuracy.value - other.test.accuracy.value


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _points(share: float) -> str:
    value = f"{100 * share:.1f}"
    return f"{value} point" if value == "1.0" else f"{value} points"


def _ms(entry: Entry) -> str:
    return f"{entry.latency.median_ms:.1f} ms an image"


def _parameters(entry: Entry) -> str:
    count = entry.parameters
    return f"{count / 1e6:.1f} M parameters" if count >= 1e5 else f"{count:,} parameters"


def _names(entries: Sequence[Entry]) -> str:
    return _join([entry.name for entry in entries])


def _join(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
