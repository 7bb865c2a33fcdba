"""Comparisons on made-up models with known mistakes: who is better, what is noise, what is refused and advised."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from facewright.errors import DataError, UsageError
from facewright.evaluation.advice import advise, converged, reached, validation_volatility
from facewright.evaluation.classification import BinaryResult, Predictions, classify
from facewright.evaluation.compare import compare, hardest, holm, most_confused
from facewright.evaluation.results import Comparison, Entry, Latency
from facewright.events import EpochRow
from facewright.metrics.binary import Epc
from facewright.metrics.intervals import Rate

CLASSES = ("ann", "bob", "cyd", "dee")
N = 200


def predicted(right: range) -> Predictions:
    """N images; those in the range are right, the others are taken for the next class."""
    labels = np.arange(N) % len(CLASSES)
    guess = np.where(np.isin(np.arange(N), right), labels, (labels + 1) % len(CLASSES))
    probabilities = np.where(np.arange(len(CLASSES)) == guess[:, None], 0.7, 0.1)
    return Predictions(tuple(f"{i:03}.jpg" for i in range(N)), labels.astype(np.int64), probabilities)


def history(*validation: float) -> tuple[EpochRow, ...]:
    return tuple(
        EpochRow(i, "train", 1000 * i, 10 * i, 112, 1e-3, 1.0, 0.5, 1.0, accuracy, -1.0, 9.0 * i, 100.0, False)
        for i, accuracy in enumerate(validation, start=1)
    )


def entry(name: str, right: range, ms: float = 20.0, parameters: int = 10_000_000, **changes) -> Entry:
    said = predicted(right)
    made = Entry(
        name=name,
        run=f"runs/{name}",
        model=name,
        recipe="scratch",
        image_size=112,
        parameters=parameters,
        flops=1_000,
        images_seen=20_000,
        epochs=20,
        train_seconds=60.0,
        peak_memory_bytes=None,
        file_bytes=4 * parameters,
        latency=Latency(median_ms=ms, p95_ms=2 * ms, images_per_second=500.0, batch=32, threads=2),
        test=classify(said, CLASSES, "test"),
        predictions=said,
        history=(),
    )
    return made.replace(**changes)


def compared(*entries: Entry) -> Comparison:
    return compare(entries, "faces", "f00d", CLASSES, {"train": 700, "validation": 100, "test": N})


def test_every_two_models_are_compared_exactly() -> None:
    a, b, c = entry("a", range(180)), entry("b", range(10, 170)), entry("c", range(120))
    pairs = compared(a, b, c).pairs
    assert [(pair.a, pair.b) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    # b is right where a is wrong on no image, a where b is wrong on 20; c: 60; b against c: 50 and 10.
    expected = [binomtest(0, 20).pvalue, binomtest(0, 60).pvalue, binomtest(10, 60).pvalue]
    assert [pair.p_value for pair in pairs] == pytest.approx(expected, rel=1e-9)
    assert [pair.holm_p_value for pair in pairs] == pytest.approx(
        [expected[0], 3 * expected[1], 2 * expected[2]], rel=1e-9
    )
    assert [pair.accuracy_difference for pair in pairs] == pytest.approx([0.1, 0.3, 0.2])
    for pair in pairs:
        assert pair.macro_f1_difference.low <= pair.macro_f1_difference.value <= pair.macro_f1_difference.high
        assert not pair.within_noise


def test_a_difference_that_stands_out_of_many_is_not_yet_real() -> None:
    # Six discordant images, all for a: p = 0.031 for the pair alone, 0.094 among three.
    pair = compared(entry("a", range(100)), entry("b", range(94))).pairs[0]
    assert (pair.p_value, pair.holm_p_value, pair.within_noise) == (0.03125, 0.03125, False)
    among = compared(entry("a", range(100)), entry("b", range(94)), entry("c", range(97))).pairs
    assert among[0].p_value == 0.03125
    assert among[0].holm_p_value == pytest.approx(3 * 0.03125)
    assert all(pair.within_noise for pair in among)


# Each row: p-values -> Holm's. By hand: sorted, times what is left, never below the one before, at most 1.
@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([], []),
        ([0.2], [0.2]),
        ([0.04, 0.01], [0.04, 0.02]),
        ([0.03, 0.02], [0.04, 0.04]),  # 0.03 * 1 may not fall below 0.02 * 2
        ([0.9, 0.8, 0.7], [1.0, 1.0, 1.0]),
        ([0.01, 0.01, 0.01], [0.03, 0.03, 0.03]),
    ],
)
def test_holm_by_hand(p_values, expected) -> None:
    assert holm(p_values) == pytest.approx(expected)


def test_a_comparison_as_json() -> None:
    facts = compared(entry("a", range(180)), entry("b", range(100))).to_dict()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["models"][0]["test"]["accuracy"]["value"] == 0.9
    wanted = {"name", "run", "parameters", "flops", "images_seen", "train_seconds", "latency_ms", "test"}
    assert wanted <= set(facts["models"][0])
    assert {"a", "b", "p_value"} <= set(facts["pairs"][0])


def with_path(of: Entry, i: int, path: str) -> Entry:
    paths = list(of.predictions.paths)
    paths[i] = path
    return of.replace(predictions=replace(of.predictions, paths=tuple(paths)))


def with_label(of: Entry, i: int, label: int) -> Entry:
    labels = of.predictions.labels.copy()
    labels[i] = label
    return of.replace(predictions=replace(of.predictions, labels=labels))


def shorter(of: Entry) -> Entry:
    said = of.predictions
    return of.replace(predictions=Predictions(said.paths[:-1], said.labels[:-1], said.probabilities[:-1]))


A, B = entry("a", range(180)), entry("b", range(100))
BROKEN = replace(B.predictions, probabilities=B.predictions.probabilities * np.nan)
# Each row: entries -> what is raised, and what the message must hold.
REFUSED = {
    "no model": ([], UsageError, "at least one model"),
    "a name twice": ([A, B.replace(name="a")], UsageError, "different names, got a"),
    "other images": ([A, with_path(B, 7, "x.jpg")], UsageError, "number 7 is '007.jpg' and 'x.jpg'"),
    "an image less": ([A, shorter(B)], UsageError, "200 and 199 of them"),
    "another label": ([A, with_label(B, 8, 1)], UsageError, "008.jpg is 'ann' for one, 'bob' for the other"),
    "other classes": (
        [A, B.replace(test=B.test.replace(classes=("ann", "bob", "cyd", "eve")))],
        UsageError,
        "b was tested on other classes: number 3 is 'eve' and 'dee'",
    ),
    "NaN": ([A, B.replace(predictions=BROKEN)], DataError, "finite"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_compared_is_refused(name) -> None:
    entries, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        compared(*entries)


def test_the_most_confused_and_the_hardest() -> None:
    result = classify(predicted(range(198)), CLASSES, "test")  # 198 is a cyd, 199 a dee
    assert most_confused(result, 5) == (("cyd", "dee", 1), ("dee", "ann", 1))
    assert most_confused(result, 1) == (("cyd", "dee", 1),)
    assert most_confused(classify(predicted(range(N)), CLASSES, "test"), 5) == ()
    assert hardest(predicted(range(198)), 3).tolist() == [198, 199, 0]  # then ties, in order


def sentences(*entries: Entry) -> str:
    return "\n".join(compared(*entries).advice)


def test_advice_with_a_clear_winner() -> None:
    text = sentences(entry("slow", range(180), ms=40.0), entry("quick", range(100), ms=10.0, parameters=2_000_000))
    assert "For accuracy take slow: 90.0 % of 200 test images right" in text
    assert "better than quick by more than chance (p < 0.001)" in text
    assert "For speed take quick: 10.0 ms an image, 4.0 times as fast as slow, the next" in text
    assert "it costs 40.0 points of accuracy against slow (more than chance)" in text
    assert "For size take quick: 2.0 M parameters (8.0 MB on disk), 80 % fewer than slow" in text
    assert "not the training seed" in text


def test_advice_within_noise_takes_the_faster_and_smaller_one() -> None:
    text = sentences(
        entry("first", range(180), ms=40.0),
        entry("light", range(178), ms=10.0, parameters=2_000_000),
        entry("bad", range(90), ms=5.0),
    )
    assert "For accuracy first came first with 90.0 %" in text
    assert "no measurable difference from light (1.0 point behind)" in text
    assert "bad is worse by more than chance" in text
    assert "Among these take light, the fastest and the smallest (10.0 ms an image, 2.0 M parameters)" in text
    assert "For speed take bad" in text  # the fastest of all, and what that costs is said
    assert "it costs 45.0 points of accuracy against first (more than chance)" in text


def test_advice_where_the_fastest_equal_is_not_the_smallest() -> None:
    text = sentences(entry("a", range(180), ms=10.0), entry("b", range(180), ms=30.0, parameters=2_000_000))
    assert "no measurable difference from b (equal)" in text
    assert "Among these take a, the fastest (10.0 ms an image), or b, the smallest (2.0 M parameters)" in text
    assert "on these images it is right as often as a" in text


def test_advice_tells_trainings_of_one_network_not_apart_by_speed() -> None:
    text = sentences(
        entry("a", range(180), ms=10.0, model="resnet18"),
        entry("b", range(179), ms=17.0, model="resnet18", recipe="notebook-adam"),
    )
    assert "They are one network (resnet18 at 112 px), so neither speed nor size decides between them." in text
    assert "For speed" not in text and "fastest" not in text and "smallest" not in text


def test_advice_calls_close_times_and_sizes_close() -> None:
    text = sentences(
        entry("a", range(180), ms=20.0),
        entry("b", range(100), ms=21.0, parameters=10_500_000),
        entry("c", range(90), ms=99),
    )
    assert "20.0 ms an image, b takes about as long (21.0 ms an image); it is also the most accurate" in text
    assert "is about as small" in text


def test_advice_for_one_model_claims_no_winner() -> None:
    advice = compared(entry("only", range(180), history=history(0.1, 0.8, 0.9, 0.9))).advice
    assert advice == (
        "only got 90.0 % of 200 test images right (95 % interval 85.1 % to 93.4 %); "
        "there is no second model to compare it with.",
        "only reached 95 % of its own best validation accuracy after 3,000 images (epoch 3 of 4).",
    )


def test_advice_on_ease_of_training() -> None:
    text = sentences(
        entry("late", range(180), history=history(0.1, 0.2, 0.3, 0.5, 0.9, 0.92)),
        entry("early", range(100), history=history(0.1, 0.48, 0.4, 0.5, 0.4, 0.5)),
    )
    assert (
        "early reached 95 % of its own best validation accuracy after 2,000 images (epoch 2 of 6), late after 5,000"
        in text
    )
    assert "validation accuracy moved for early by 10.0 points and late by 21.0 points" in text


def test_advice_says_what_else_differed() -> None:
    text = sentences(
        entry("a", range(180)),
        entry(
            "b",
            range(100),
            recipe="notebook-adam",
            images_seen=5_000,
            latency=Latency(median_ms=9.0, p95_ms=9.0, images_per_second=9.0, batch=32, threads=1),
        ),
        entry("c", range(100), image_size=64),
    )
    assert "The budgets differ" in text
    assert "a 20,000, b 5,000 and c 20,000" in text
    assert "The models differ in recipes (notebook-adam and scratch) and image sizes (64 and 112) too" in text
    assert "different numbers of threads" in text


def test_a_last_incomplete_batch_is_no_other_budget() -> None:
    assert "budgets" not in sentences(entry("a", range(180)), entry("b", range(100), images_seen=19_900))


# Each row: validation accuracy by epoch -> the epoch that reached 95 % of the best; how unsteady the last half was.
@pytest.mark.parametrize(
    ("validation", "epoch", "moves"),
    [
        ([], None, None),  # nothing was trained
        ([0.0, 0.0], None, None),  # nothing was learnt: 95 % of nothing is reached by everybody
        ([0.5], 1, None),
        ([0.1, 0.96, 1.0], 2, None),  # three epochs have no half to speak of
        ([0.95, 0.2, 1.0, 0.8], 1, 0.2),  # the first time counts
        ([0.1, 0.9, 0.5, 0.5, 0.5, 0.5], 2, 0.0),
    ],
)
def test_when_a_model_was_trained_and_how_steadily(validation, epoch, moves) -> None:
    row = reached(history(*validation))
    assert (row.epoch if row else None) == epoch
    assert validation_volatility(history(*validation)) == (None if moves is None else pytest.approx(moves))


def test_a_model_that_only_guesses_is_advised_for_nothing() -> None:
    # Naming one of four equal classes is right for 50 of 200; c is for 52, and its interval reaches down to 20 %.
    guesser = entry("c", range(52), ms=1.0, parameters=9)
    found = compared(entry("a", range(180)), entry("b", range(150), ms=10.0), guesser)
    speed, size = (next(line for line in found.advice if line.startswith(f"For {what}")) for what in ("speed", "size"))
    assert speed.startswith("For speed take b") and "c" not in size.split()
    said = "c (26.0 %) did no better than always naming the largest class would (25.0 %)"
    assert any(line.startswith(said) for line in found.advice)


def test_where_all_guess_the_fastest_is_still_the_fastest() -> None:
    found = compared(entry("a", range(52), ms=2.0), entry("b", range(50), ms=1.0))
    assert any(line.startswith("For speed take b") for line in found.advice)
    assert not any("no better than" in line for line in found.advice)


def test_one_look_at_the_end_says_nothing_of_ease() -> None:
    found = compared(entry("a", range(180), history=history(0.9)), entry("b", range(150), history=history(0.8)))
    assert not any("of its own best validation accuracy" in line for line in found.advice)


def course(*losses: float) -> tuple[EpochRow, ...]:
    return tuple(
        EpochRow(i, "train", 1000 * i, 10 * i, 112, 1e-3, 1.0, 0.5, loss, 0.5, -loss, 9.0 * i, 100.0, False)
        for i, loss in enumerate(losses, start=1)
    )


FALLING = course(2.0, 1.5)
LEVEL = course(*np.geomspace(2.0, 0.5, 10), *[0.5] * 4)


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (course(), True),
        (course(1.0), False),  # one epoch shows no course
        ((replace(course(1.0)[0], phase="probe"),), True),  # solved, not trained
        (FALLING, False),
        (course(1.5, 2.0), True),
        (course(*np.linspace(2.0, 1.0, 20)), False),
        (LEVEL, True),
        (course(*np.linspace(2.0, 1.0, 16), 1.0, 0.97, 1.02, 0.99), True),  # noise, not a fall
        (course(*np.linspace(2.0, 1.0, 16), 1.0, 0.9, 0.82, 0.7), False),
        (course(*np.linspace(2.0, 1.0, 16), 1.0, 1.1, 1.2, 1.3), True),  # overfitting is no reason to train longer
    ],
)
def test_a_run_is_converged_where_its_loss_has_stopped_falling(history: tuple[EpochRow, ...], expected: bool) -> None:
    assert converged(history) is expected


def test_one_converged_model_beside_others_is_no_winner() -> None:
    found = compared(entry("flat", range(20), history=LEVEL), entry("rising", range(150), history=FALLING))
    assert found.advice[0].startswith("Not converged: rising") and "second model" not in " ".join(found.advice)


def test_the_reason_is_said_for_one_epoch_and_for_a_falling_loss() -> None:
    found = compared(entry("once", range(20), history=course(1.0)), entry("rising", range(150), history=FALLING))
    assert found.not_converged == ("once", "rising")
    assert "one epoch" in found.advice[0] and "fell" in found.advice[0]


def test_a_run_that_is_not_converged_takes_no_part_in_the_advice() -> None:
    found = compared(
        entry("short", range(190), ms=1.0, parameters=1, history=FALLING),
        entry("long", range(150), history=LEVEL),
        entry("other", range(120), ms=30.0, history=LEVEL),
    )
    assert found.not_converged == ("short",)
    first = found.advice[0]
    assert "long" in first and "short" not in first
    assert all("short" not in sentence or "onverged" in sentence or "seen" in sentence for sentence in found.advice)


def test_without_a_converged_run_nothing_is_advised() -> None:
    found = compared(entry("a", range(190), history=FALLING), entry("b", range(100), history=FALLING))
    assert found.not_converged == ("a", "b")
    assert not any("take a" in sentence or "take b" in sentence for sentence in found.advice)


def test_the_baseline_is_the_largest_class() -> None:
    assert compared(entry("a", range(100))).baseline == 0.25


@pytest.mark.parametrize(("second", "overlaps"), [((0.2, 0.1, 0.3), True), ((0.5, 0.4, 0.6), False)])
def test_intervals_are_said_to_overlap_where_they_do(second, overlaps) -> None:
    def binary(value: float, low: float, high: float) -> BinaryResult:
        rate = Rate(value=value, low=low, high=high, n=100)
        half = {"hter_at_half": rate, "far_at_half": rate, "frr_at_half": rate, "far": rate, "frr": rate, "hter": rate}
        curve = Epc(weights=(0.5,), thresholds=(0.5,), hter=(0.1,))
        eer = {"eer": 0.1, "eer_low": 0.1, "eer_high": 0.1, "auc": 0.9, "validation_hter": 0.1, "threshold": 0.5}
        return BinaryResult(
            accepted="bob", rejected="ann", positives=20, negatives=80, rule="eer", epc=curve, **half, **eer
        )

    entries = [entry("a", range(180)), entry("b", range(100))]
    results = [binary(0.15, 0.1, 0.25), binary(*second)]
    whole = [one.replace(test=one.test.replace(binary=result)) for one, result in zip(entries, results, strict=True)]
    sentence = next(line for line in advise(whole, compared(*entries).pairs) if line.startswith("The classes are"))
    assert ("overlap" in sentence) is overlaps
