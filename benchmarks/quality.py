"""What the quality of a face says about errors: error-versus-reject curves on people it was not chosen on.

    python benchmarks/quality.py FOLDER [--model MODEL] [--detector FILE] [--half 1] [--fmr 0.01 0.001] [--json]

FOLDER has a folder per person. Half of the people, drawn with a fixed seed, chose the form and the limits of
`faces/quality.py` (--half 0); the other half shows what they are worth (--half 1, the default). All genuine pairs of a
half are compared twice: both photos as they are; and one of them degraded: reduced to a fifth at most, blurred by up to
4 px of sigma, or reduced and enlarged again, drawn with a fixed seed. The threshold is that of a false match rate over
all impostor pairs of the half. Printed: FNMR without rejection, and with 10 and 20 % of the genuine pairs rejected by
their poorer photo; the area under the curve up to 30 %, 1 where a measure says nothing.

"three" is the quality by size, sharpness and pose, "four" the same with the norm of the embedding over the typical
norm, which is measured on the other half; the last line says if `calibrate` would make it a part of the quality.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from facewright import images
from facewright.embedding import similarities
from facewright.evaluation.verification import ErrorVersusReject, error_versus_reject
from facewright.faces.quality import LOW, Quality, quality_of, typical_norm
from facewright.faces.selection import Face
from facewright.images import images_below
from facewright.recognition import Recognizer

MEASURES = ("three", "four", "size", "sharpness", "pose", "norm", "score")
SHOWN = (0.1, 0.2)


@dataclass(frozen=True)
class Photos:
    """Embedded photos, their people, the face of each and the norm of its embedding."""

    names: list[str]
    people: NDArray[np.str_]
    vectors: NDArray[np.float32]
    norms: NDArray[np.float64]
    faces: list[Face]

    def measure(self, name: str, typical: float) -> NDArray[np.float64]:
        """One component, or the value, of all photos, with a typical norm; 0 where a face has none."""
        ratios = [None] * len(self.faces) if name == "three" else (self.norms / typical).tolist()
        made: list[Quality] = [quality_of(face, ratio) for face, ratio in zip(self.faces, ratios, strict=True)]
        return np.array([getattr(one, "value" if name in ("three", "four") else name) or 0.0 for one in made])

    def genuine(self) -> NDArray[np.int64]:
        """(P, 2) rows of the pairs of one person."""
        same = self.people[:, None] == self.people[None]
        return np.argwhere(np.triu(same, 1))


def degraded(photo: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A photo reduced, blurred, or reduced and enlarged again."""
    image, kind, by = Image.fromarray(photo), int(rng.integers(3)), float(rng.uniform(1, 5))
    small = (max(1, round(image.width / by)), max(1, round(image.height / by)))
    if kind == 0:
        return np.asarray(image.resize(small, Image.Resampling.LANCZOS))
    if kind == 1:
        return np.asarray(image.filter(ImageFilter.GaussianBlur(by * 0.8)))
    return np.asarray(image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC))


def embed(recognizer: Recognizer, paths: list[Path], seed: int | None) -> Photos:
    """Embed the photos that show a face; degraded where there is a seed."""
    rng = np.random.default_rng(seed)
    names, people, faces = list[str](), list[str](), list[Face]()
    vectors, norms = list[NDArray[np.float32]](), list[NDArray[np.float64]]()
    for path in paths:
        photo = images.read(path)
        face = recognizer.pick(photo if seed is None else degraded(photo, rng)).face
        if face is not None:
            names.append(str(path))
            people.append(path.parent.name)
            faces.append(face)
            vector, norm = recognizer.embed_with_norms([face])
            vectors.append(vector)
            norms.append(norm)
    return Photos(names, np.array(people, np.str_), np.concatenate(vectors), np.concatenate(norms), faces)


def curves(
    original: Photos, other: Photos, fmrs: list[float], typical: float
) -> Iterator[tuple[str, float, ErrorVersusReject]]:
    """The curve of each measure at each false match rate; `other` are degraded photos, or the same ones."""
    measures = {name: (other.measure(name, typical), original.measure(name, typical)) for name in MEASURES}
    same_set = other is original
    all_pairs = original.vectors @ original.vectors.T
    upper = np.triu(np.ones(all_pairs.shape, bool), 1)
    impostors = np.sort(all_pairs[upper & (original.people[:, None] != original.people[None])])[::-1]
    scores = all_pairs if same_set else other.vectors @ original.vectors.T
    different = np.array(other.names)[:, None] != np.array(original.names)[None]
    genuine = (other.people[:, None] == original.people[None]) & (upper if same_set else different)
    a, b = np.nonzero(genuine)
    for fmr in fmrs:
        threshold = float(impostors[int(fmr * impostors.size)])
        for name, (probe, reference) in measures.items():
            quality = np.column_stack([probe[a], reference[b]])
            yield name, fmr, error_versus_reject(scores[a, b], quality, threshold)


def at(curve: ErrorVersusReject, rejected: float) -> float:
    """FNMR with at most so many pairs rejected."""
    return [point.fnmr.value for point in curve.points if point.rejected <= rejected + 1e-9][-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="built-in")
    parser.add_argument("--detector")
    parser.add_argument("--half", type=int, choices=(0, 1), default=1)
    parser.add_argument("--fmr", type=float, nargs="+", default=[0.01, 0.001])
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    paths = images_below(asked.folder)
    names = sorted({path.parent.name for path in paths})
    half = dict(zip(names, np.random.default_rng(1).permutation(len(names)) % 2, strict=True))
    mine = [path for path in paths if half[path.parent.name] == asked.half]
    recognizer = Recognizer.load(asked.model, detector=asked.detector)
    photos = Counter(path.parent.name for path in paths)
    several = [path for path in paths if photos[path.parent.name] > 1]
    theirs = embed(recognizer, [path for path in several if half[path.parent.name] != asked.half], None)
    pairs, typical = theirs.genuine(), float(np.median(theirs.norms))
    scores = similarities(theirs.vectors[pairs[:, 0]], theirs.vectors[pairs[:, 1]])
    found = typical_norm(theirs.norms, pairs, scores, asked.folder.name, recognizer.detector_name)
    original = embed(recognizer, mine, None)
    poor = embed(recognizer, [path for path in several if half[path.parent.name] == asked.half], 0)
    rows: list[dict[str, Any]] = []
    for title, other in (("as they are", original), ("one degraded", poor)):
        for name, fmr, curve in curves(original, other, asked.fmr, typical):
            rows.append({"photos": title, "measure": name, "fmr": fmr, **curve.to_dict()})
            if not asked.json and len(rows) == 1:
                print(
                    "| photos | FMR | pairs | rejected by | FNMR | 10 % rejected | 20 % | area |\n" + "|---" * 8 + "|"
                )
            if not asked.json:
                start = curve.points[0].fnmr
                shown = " | ".join(f"{100 * at(curve, share):.2f} %" for share in SHOWN)
                area = "" if curve.area is None else f"{curve.area:.2f}"
                print(
                    f"| {title} | {fmr:g} | {curve.genuine:,} | {name} | {100 * start.value:.2f} % "
                    f"({100 * start.low:.2f}–{100 * start.high:.2f}) | {shown} | {area} |"
                )
    if asked.json:
        print(json.dumps({"rows": rows, "typical_norm": None if found is None else found.to_dict()}))
        return
    for title, one in (("as they are", original), ("degraded", poor)):
        value = one.measure("three", typical)
        poor_share = f"{100 * np.mean(value < LOW):.1f} % below {LOW}"
        print(f"{title}: {value.size:,} faces, median quality {np.median(value):.2f}, {poor_share}")
    known = "is no part" if found is None else f"is a part (rank correlation {found.correlation:.2f})"
    print(f"the norm (median {typical:.3g} of {theirs.norms.size:,} faces, {len(pairs):,} genuine pairs) {known}")


if __name__ == "__main__":
    main()
