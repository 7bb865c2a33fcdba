"""The verification protocol over a list of pairs: embed, compare, measure, write the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facewright.evaluation.subgroups import Subgroups, rates_by_group
from facewright.evaluation.verification import ErrorVersusReject, VerificationResult, error_versus_reject, verify_pairs
from facewright.events import EventHandler, Message, ignore_event
from facewright.files import csv_text, write_atomic, write_json
from facewright.images import Pixels
from facewright.input_spec import InputSpec
from facewright.metrics.thresholds import Threshold
from facewright.metrics.verification import ErrorRates, error_rates
from facewright.provenance import origin, versions
from facewright.public_names import select_face_was_policy
from facewright.recognition import Recognizer, SelectFace
from facewright.records import notebook_display
from facewright.runs import seen_images
from facewright.workflows.scores import ScoredPairs, score_pairs
from facewright.workflows.verification import one_threshold, read_groups, threshold_for_groups


@dataclass(frozen=True, eq=False)
class PairsMeasured:
    """A list of pairs, scored and evaluated."""

    model: str
    fingerprint: str
    licence: str | None  # of the weights; None: not known
    network: str | None  # fingerprint of the network alone; None: the built-in one
    spec: InputSpec  # what the network was fed
    detector: str
    select_face: SelectFace | None  # of several faces; None where photos are taken whole
    scored: ScoredPairs
    result: VerificationResult
    threshold: Threshold | None  # that the model file holds
    seen: Mapping[str, int]  # images that the run was made with: of its "train" and "validation" part
    at_threshold: ErrorRates | None  # and what it does on these pairs
    subgroups: Subgroups | None = None  # where groups were asked for
    rejection: ErrorVersusReject | None = None  # by quality; None where photos are taken whole

    def to_dict(self) -> dict[str, Any]:
        """As `pairs --json` prints it."""
        pairs, broken = self.scored.pairs, self.scored.embedded.dataset.broken
        held = None
        if self.threshold is not None and self.at_threshold is not None:
            held = {
                "threshold": self.threshold.to_dict(),
                "far": self.at_threshold.far.to_dict(),
                "frr": self.at_threshold.frr.to_dict(),
                "chosen_on_these_pairs": self.threshold.digest == self.scored.digest,
            }
        return self.result.to_dict() | {
            "model": self.model,
            "fingerprint": self.fingerprint,
            "licence": self.licence,
            "network": self.network,
            "input": self.spec.to_dict(),
            "detector": self.detector,
            "policy": self.select_face,
            "several_faces": self.scored.embedded.several,
            "pairs": pairs.name,
            "stored": held,
            "seen": self.seen,
            "broken": [{"path": item.path, "reason": item.reason} for item in broken],
            **({} if self.subgroups is None else {"subgroups": self.subgroups.to_dict()}),
            **({} if self.rejection is None else {"error_versus_reject": self.rejection.to_dict()}),
        }

    _repr_html_ = notebook_display

    def write(self, folder: Path) -> None:
        """Leave verification.json, scores.csv and report.html in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "verification.json", self.to_dict())
        write_atomic(folder / "scores.csv", _table(self.scored).encode(errors="backslashreplace"))
        write_atomic(folder / "report.html", _page(self))


@select_face_was_policy
def pairs(
    model: str | Path | None,
    where: str | Path,
    images: str | Path | None = None,
    *,
    out: str | Path | None = None,
    crop: float | None = None,
    flip: bool | None = None,
    detector: str | None = None,
    select_face: SelectFace | None = None,
    by: str | None = None,
    attributes: str | Path | None = None,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> PairsMeasured:
    """Measure a verifier on a list of pairs.

    The accuracy is over the folds of the list where it has any; else, where it is known who is in the pairs, over two
    halves of the people, each at the threshold that was best on the other half.

    Args:
        model: a run directory, a bundle file, or architecture@weights; None or "built-in": the built-in networks.
        where: the list: LFW's pairs.txt and development files, a table a,b,same[,fold], or a .bin of InsightFace.
        images: the folder of its images; None for a .bin, which holds them.
        out: a folder for verification.json, scores.csv and report.html.
        crop: the share of both sides of an image that is kept, in (0, 1]; the model's own by default.
        flip: whether the embeddings of an image and its mirror image are averaged; likewise.
        detector: what finds the faces, as of `Recognizer`. An image without a face is a failure to acquire; its pairs
            are errors.
        select_face: which of several faces is used, as of `Recognizer`.
        by: a column of `attributes`: also the error rates within each group, at the model's threshold, else at that of
            a false-accept rate of 1 % over all pairs.
        attributes: a table with a column `path` (as in the list) and columns of groups; default: attributes.csv beside
            the list.
    Raises:
        DataError: the list cannot be understood, or none of its images can be used. EmptyScores: one kind of pair
        has no score.
    """
    out = None if out is None else Path(out)
    group_of = None if by is None else read_groups(Path(attributes or Path(where).with_name("attributes.csv")), by)
    recognizer = Recognizer.load(model, detector=detector, crop=crop, flip=flip, device=device)
    scored = score_pairs(recognizer, where, images, on_event, select_face)
    truth = scored.pairs.same
    result = verify_pairs(scored.scores, truth, scored.people, scored.pairs.fold, scored.failures)
    for note in (*scored.pairs.notes, *_about_halves(scored, result)):
        on_event(Message(note))
    threshold = recognizer.threshold()
    at_threshold = None
    if threshold is not None:
        usable = scored.scored
        sides = scored.scores[usable & truth], scored.scores[usable & ~truth]
        at_threshold = error_rates(*sides, threshold.value)
    seen = {} if model is None else seen_images(Path(model), scored.embedded.digests)
    if seen:
        parts = " and ".join(f"{count:,} in its {part} part" for part, count in seen.items())
        on_event(Message(f"note: of the images of {where}, {model} was made with {parts}: this is no test of it"))
    measured = PairsMeasured(
        model=recognizer.name,
        fingerprint=recognizer.fingerprint,
        licence=recognizer.licence,
        network=None if recognizer.embedder is None else recognizer.embedder.fingerprint,
        spec=recognizer.spec,
        detector=recognizer.detector_name,
        select_face=None if recognizer.takes_photos_whole else recognizer.face_selection(select_face),
        scored=scored,
        result=result,
        threshold=threshold,
        seen=seen,
        at_threshold=at_threshold,
        subgroups=None if group_of is None or by is None else _subgroups(scored, result, threshold, group_of, by),
        rejection=_rejection(scored, result, threshold),
    )
    if out is not None:
        measured.write(out)
    return measured


def _subgroups(
    scored: ScoredPairs, result: VerificationResult, threshold: Threshold | None, group_of: Mapping[str, str], by: str
) -> Subgroups:
    value, chosen = threshold_for_groups(result, threshold, by)
    groups = [(group_of.get(a, ""), group_of.get(b, "")) for a, b in zip(scored.pairs.a, scored.pairs.b, strict=True)]
    return rates_by_group(scored.scores, scored.pairs.same, groups, value, by, chosen)


def _rejection(
    scored: ScoredPairs, result: VerificationResult, threshold: Threshold | None
) -> ErrorVersusReject | None:
    if scored.quality is None:
        return None
    at_eer = result.eer_threshold, "of the equal error rate over these pairs"
    value, chosen = one_threshold(result, threshold) or at_eer
    genuine = scored.scored & scored.pairs.same
    return error_versus_reject(scored.scores[genuine], scored.quality[genuine], value, chosen=chosen)


def in_words(spec: InputSpec, detector: str = "none", select_face: SelectFace | None = None) -> str:
    """The input of a network.

    >>> in_words(InputSpec(112, 112, (0, 0, 0), (1, 1, 1), crop=0.5, flip=True))
    '112 × 112 px of the central 50 % of both sides, averaged with the mirror image'
    >>> in_words(InputSpec(150, 150, (0, 0, 0), (1, 1, 1)), "dlib", "centre")
    '150 × 150 px, the face nearest to the centre, found by dlib'
    """
    part = "" if spec.crop == 1 else f" of the central {100 * spec.crop:g} % of both sides"
    if detector != "none":
        which = {"largest": "largest face", "centre": "face nearest to the centre"}.get(select_face or "", "only face")
        part += f", the {which}, found by {detector}"
    return f"{spec.height} × {spec.width} px{part}" + (", averaged with the mirror image" if spec.flip else "")


def _about_halves(scored: ScoredPairs, result: VerificationResult) -> list[str]:
    """Return how many pairs the accuracy omits because their two people lie in different halves."""
    listed = len(scored.pairs)
    if scored.pairs.fold is not None or result.accuracy is None or result.accuracy.n >= listed:
        return []
    across = listed - result.accuracy.n
    return [
        f"accuracy is over two halves of the people: {across:,} of {listed:,} pairs show a person of each half and are "
        f"left out of it (n = {result.accuracy.n:,}); the other rates count every pair"
    ]


def _table(scored: ScoredPairs) -> str:
    """Return `a,b,same,fold,score`, a row for each pair; an undefined fold or score is empty."""
    listed = scored.pairs
    rows: list[list[object]] = []
    for i, (a, b) in enumerate(zip(listed.a, listed.b, strict=True)):
        fold = "" if listed.fold is None else int(listed.fold[i])
        rows.append([a, b, int(listed.same[i]), fold, float(scored.scores[i]) if scored.scored[i] else ""])
    return csv_text(["a", "b", "same", "fold", "score"], rows)


def _page(measured: PairsMeasured) -> str:
    from facewright.report.verification import MeasuredThreshold, PairContext, ShownPair, pair_page

    def shown(rows: Sequence[int]) -> list[ShownPair]:
        return [ShownPair(scored.pairs.a[row], scored.pairs.b[row], float(scored.scores[row])) for row in rows]

    scored, result, threshold = measured.scored, measured.result, measured.threshold
    held = None
    if threshold is not None and measured.at_threshold is not None:
        held = MeasuredThreshold(threshold, measured.at_threshold, on_its_own=threshold.digest == scored.digest)
    context = PairContext(
        result=result,
        model=measured.model,
        pairs=scored.pairs.name,
        input=in_words(measured.spec, measured.detector, measured.select_face),
        false_accepts=shown(result.worst_false_accepts),
        false_rejects=shown(result.worst_false_rejects),
        thumbnail=_as_seen(scored),
        stored=held,
        subgroups=measured.subgroups,
        rejection=measured.rejection,
        broken=[(item.path, item.reason) for item in scored.embedded.dataset.broken],
        origin=origin(versions("torch", "numpy", "scipy", "pillow")),
        fingerprint=measured.fingerprint,
        licence=measured.licence,
    )
    return pair_page(context)


def _as_seen(scored: ScoredPairs) -> Callable[[str], Pixels | None]:
    """Return a function from a path in the data to the image as the network sees it."""
    embedded = scored.embedded
    rows = {record.path: row for row, record in enumerate(embedded.dataset.records)}
    return lambda path: embedded.image(rows[path]) if path in rows else None
