"""A model card: what is recorded of a model, as Markdown with the header that the Hugging Face Hub reads.

Source: Mitchell et al. 2019, "Model Cards for Model Reporting" (arXiv:1810.03993), for the sections.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Literal

from facewright.evaluation.subgroups import Subgroups
from facewright.metrics.intervals import Rate
from facewright.metrics.thresholds import Threshold
from facewright.records import Record

HUB_LICENCES = {"Apache-2.0": "apache-2.0", "MIT": "mit", "BSD-3-Clause": "bsd-3-clause", "CC0-1.0": "cc0-1.0"}
USES = {
    "recognizer": "To tell whether two photos show the same person, and to search galleries, at a threshold that was"
    " calibrated on photos like yours.",
    "targets": "To predict the attributes, numbers or votes below from a face image, on images like those it was"
    " trained on.",
    "classifier": "To assign a face image to one of the classes below, on images like those it was trained on.",
}
OF_PEOPLE = (
    "If its answers are emotions, ages, sex or ethnicity, they repeat how annotators labelled photos, not what a person"
    " feels or is: do not infer them about people who did not agree.",
    "An apparent age is no document.",
    "In the European Union, inferring emotions at work and in education is forbidden, except for medical or safety"
    " reasons (Regulation (EU) 2024/1689, Article 5(1)(f)); so is sorting people by biometric data to deduce race,"
    " opinions, beliefs or sexual orientation (Article 5(1)(g)).",
)
"""Limits of classifiers of people; docs/protocols.md holds the same."""
NOT_FOR = "No decision about a person should rest on this model alone. It knows nothing of consent or of the law."


class Measured(Record):
    """A number that was measured, with its interval."""

    what: str
    data: str
    rate: Rate
    unit: str = "%"  # "": the number's own


class ModelCard(Record):
    """The records of a model. An empty tuple or None: nothing is."""

    name: str
    kind: Literal["recognizer", "classifier"]
    architecture: str
    fingerprint: str
    classes: tuple[str, ...]
    targets: bool = False  # whether `classes` are targets: attributes, numbers, votes
    licence: str | None
    data: tuple[tuple[str, str], ...]  # of the training data and of the public weights it began with: what, value
    input: tuple[tuple[str, str], ...]
    thresholds: tuple[Threshold, ...]
    measured: tuple[Measured, ...]
    subgroups: tuple[Subgroups, ...]

    def limits(self) -> Iterator[str]:
        """Yield what a reader must know before using the model; what is not recorded is said."""
        if self.licence is None:
            yield "The licence is not recorded."
        if not self.measured:
            yield "No measurement is recorded: its accuracy is not known."
        if not self.thresholds and self.kind == "recognizer":
            yield "It holds no threshold: calibrate it before it decides anything."
        if not self.subgroups:
            yield "Its error rates for groups of people were not measured."
        for groups in self.subgroups:
            yield from (f"By {groups.column}: {limit}" for limit in groups.limits)
        for threshold in self.thresholds:
            if threshold.few_people:
                yield f"The threshold {threshold.value:.4f} rests on few people for its rate: {threshold.people:,}."


def markdown(card: ModelCard) -> str:
    """Return the card as Markdown."""
    of_people = OF_PEOPLE if card.kind == "classifier" else ()
    parts = [
        _header(card),
        f"# {_plain(card.name)}",
        f"A face {card.kind} of Facewright. {USES['targets' if card.targets else card.kind]}",
        "## Intended use and limits",
        "\n".join(f"- {_plain(line)}" for line in (NOT_FOR, *of_people, *card.limits())),
        "## Model",
        _table(("", ""), [("architecture", card.architecture), ("fingerprint", card.fingerprint),
                          ("licence", card.licence or "not recorded"), *card.input]),
    ]  # fmt: skip
    if card.classes:
        noun = "targets" if card.targets else "classes"
        parts += [f"{len(card.classes)} {noun}: {_plain(', '.join(card.classes[:50]))}"
                  + (" …" if len(card.classes) > 50 else "")]  # fmt: skip
    parts += ["## Data", _table(("", ""), card.data) if card.data else "Not recorded."]
    parts += ["## Thresholds", _thresholds(card.thresholds) if card.thresholds else "None is stored."]
    parts += ["## Measured", _measured(card.measured) if card.measured else "Nothing is recorded."]
    for groups in card.subgroups:
        parts += [f"## By {_plain(groups.column)}", _groups(groups)]
    return "\n\n".join(parts) + "\n"


def _header(card: ModelCard) -> str:
    """The front matter; JSON strings are YAML."""
    known = HUB_LICENCES.get(card.licence or "")
    lines = [f"license: {known or 'other'}", "library_name: facewright", f"tags: [face-{card.kind}, facewright]"]
    if known is None and card.licence is not None:
        lines.insert(1, f"license_name: {json.dumps(card.licence)}")
    task = "image-classification" if card.kind == "classifier" else "image-feature-extraction"
    return "\n".join(["---", *lines, f"pipeline_tag: {task}", "---"])


def _thresholds(thresholds: Sequence[Threshold]) -> str:
    rows = [
        (one.purpose if one.accepted is None else f"{one.purpose} {one.accepted}", f"{one.value:.4f}",
         "" if one.far_target is None else f"{one.far_target:g}", _rate(one.far),
         "undefined" if one.tar is None else _rate(one.tar), one.detector, one.data)
        for one in thresholds
    ]  # fmt: skip
    return _table(("for", "value", "FAR asked", "FAR achieved", "TAR", "detector", "chosen on"), rows)


def _measured(measured: Sequence[Measured]) -> str:
    rows = [(one.what, one.data, _rate(one.rate, one.unit), f"{one.rate.n:,}") for one in measured]
    return _table(("", "data", "value (95 % interval)", "n"), rows)


def _groups(groups: Subgroups) -> str:
    rows = [
        (row.group, *("none" if (rate := getattr(row, name)) is None else _rate(rate) for name in groups.rates))
        for row in groups.groups
    ]
    at = "" if groups.threshold is None else f"At the threshold {groups.threshold:.4f} ({groups.threshold_of}).\n\n"
    return at + _table((groups.column, *groups.rates.values()), rows)


def _rate(rate: Rate, unit: str = "%") -> str:
    if unit != "%":
        return f"{rate.value:.4g} ({rate.low:.4g} to {rate.high:.4g})"
    return f"{100 * rate.value:.2f} % ({100 * rate.low:.2f} to {100 * rate.high:.2f})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _plain(text: str) -> str:
    r"""Return text that Markdown and HTML show as it is, on one line.

    >>> _plain("a|b <script>")
    'a\\|b &lt;script&gt;'
    """
    shown = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return shown.replace("|", "\\|")
