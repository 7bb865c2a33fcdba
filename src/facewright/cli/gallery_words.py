"""What the commands of a gallery tell people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from facewright.cli.output import number_of, percent

if TYPE_CHECKING:
    from facewright.gallery.calibration import GalleryThreshold
    from facewright.gallery.results import Found, Identified, PeopleFound, Stats
    from facewright.gallery.store import Match


def answer(found: Identified) -> list[str]:
    """One photo's answer, with the score that decided; and which face was taken, where there were several."""
    if found.error is not None:
        return [f"{found.photo}: cannot be used: {found.error}"]
    said = None if found.taken is None else found.taken.said
    line = f"{found.photo}: {verdict(found.person, found.matches, found.threshold)}"
    return [line] if said is None else [line, f"  {said}"]


def everybody(found: PeopleFound) -> list[str]:
    """The answer for each face of a photo, a line each."""
    if found.error is not None:
        return [f"{found.photo}: cannot be used: {found.error}"]
    lines = [f"{found.photo}: {number_of(len(found.faces), 'face')}"]
    for face in found.faces:
        x, y, width, height = (round(value) for value in face.box)
        said = verdict(face.person, face.matches, found.threshold)
        lines.append(f"  {width} x {height} px at {x}, {y}: {said}")
    return lines


def verdict(person: str | None, matches: Sequence[Match], threshold: float) -> str:
    """Who it is, with the score that decided."""
    if not matches:
        return "unknown (nobody to compare with)"
    best = matches[0]
    sign, who = (">=", person) if person is not None else ("<", f"unknown; most like {best.person}")
    return f"{who} ({best.score:.4f} {sign} {threshold:.4f})"


def described(found: Found) -> list[str]:
    """One photo's matches, a line each."""
    if found.error is not None:
        return [f"{found.photo}: cannot be used: {found.error}"]
    said = "" if found.taken is None or found.taken.said is None else f" {found.taken.said}"
    return [f"{found.photo}:{said}", *(f"  {match_line(match)}" for match in found.matches)]


def match_line(match: Match) -> str:
    """A person, the score, and the photo that it is of."""
    return f"{match.score:7.4f}  {match.person}  ({match.photo}, entry {match.number}){tags(match.metadata)}"


def tags(metadata: Mapping[str, str]) -> str:
    """Metadata behind something else.

    >>> tags({"team": "a"})
    '  team=a'
    """
    return "".join(f"  {key}={value}" for key, value in metadata.items())


def describe_stats(found: Stats) -> str:
    """Counts first, then what made the vectors."""
    lines = [
        f"{found.where}: {number_of(found.entries, 'photo')} of {found.people:,} people, verified",
        f"faces kept   {found.crops:,}",
        f"model        {found.pin.model}",
        f"fingerprint  {found.pin.fingerprint}, {found.pin.width} numbers, crop {found.pin.crop:g}",
        f"detector     {found.pin.detector}",
    ]
    if found.threshold is None:
        return "\n".join([*lines, "threshold    none; choose one with facewright gallery calibrate"])
    return "\n".join([*lines, *describe_threshold(found.threshold).splitlines()])


def describe_threshold(chosen: GalleryThreshold) -> str:
    """The threshold and what it was chosen on."""
    line = chosen.threshold
    lines = [
        f"threshold {line.value:.4f}, for {100 * line.far_target:g} % of strangers taken for somebody",
        f"achieved  {percent(line.far)} of searches",
    ]
    if chosen.fpir_by_people is not None:
        lines.append(f"          {percent(chosen.fpir_by_people)} over resampled people")
    if line.tar is not None:
        lines.append(f"finds     {percent(line.tar)} of enrolled photos by the others of their person")
    lines.append(f"chosen on {line.data}; strangers are taken for somebody more often as the gallery grows")
    lines += [f"most alike: {one.a} and {one.b} ({one.score:.4f})" for one in chosen.alike]
    return "\n".join(lines)
