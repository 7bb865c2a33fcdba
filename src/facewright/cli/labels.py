"""`facewright inspect --labels RUN`: which labels look wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from facewright.cli.output import emit, place_for, say, show, table
from facewright.cli.progress import listener

if TYPE_CHECKING:
    from facewright.evaluation.suspicion import PartedClass, Suspicion

SHOWN = 10  # pictures of a kind; --json has all


def inspect_labels(run: Path, folds: int, weights: str | None, out: Path | None, quiet: bool, as_json: bool) -> None:
    """Look for wrong labels in a run's dataset; suspicious.json and report.html are left in the run.

    Args:
        run: a finished run.
        folds, weights: as `workflows.label_issues.suspect_labels`.
        out: a page of its own, too.
    """
    place_for(out)

    from facewright.workflows.label_issues import suspect_labels, write_page

    with listener(quiet) as on_event:
        found = suspect_labels(run, folds=folds, weights=weights, on_event=on_event)
    if as_json:
        emit(found.to_dict())
    else:
        show(describe(found))
    say(f"wrote {run / 'suspicious.json'}")
    say(f"report: {run / 'report.html'}")
    if out is not None:
        write_page(run, out)
        say(f"wrote {out}")


def describe(found: Suspicion) -> str:
    """What was found, in words and tables."""
    from facewright.report.suspicion import in_words

    lines = [f"{found.dataset}: {found.n:,} pictures in {len(found.classes)} classes", *in_words(found)]
    if found.suspects:
        rows = [[row.path, row.label, row.suggested, f"{row.margin:+.2f}"] for row in found.suspects[:SHOWN]]
        lines += ["", table(["another class", "label", "looks like", "margin"], rows)]
    strangers = () if found.likeness is None else found.likeness.strangers
    if strangers:
        alike = [[row.path, row.label, row.nearest, f"{row.likeness:.2f}"] for row in strangers[:SHOWN]]
        lines += ["", table(["unlike its class", "label", "nearest", "likeness"], alike)]
    parted = () if found.likeness is None else found.likeness.parted
    return "\n".join([*lines, *(in_two(row) for row in parted)])


def in_two(parted: PartedClass) -> str:
    """A class that falls in two, in a few lines."""
    sizes = f"{len(parted.larger):,} and {len(parted.smaller):,} pictures"
    return "\n".join(
        (
            "",
            f"{parted.label} falls in two: {sizes}, cosines {parted.within:.2f} inside and {parted.across:.2f} across",
            f"  as {', '.join(parted.larger[:3])}",
            f"  or {', '.join(parted.smaller[:3])}",
        )
    )
