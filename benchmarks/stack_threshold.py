"""The threshold of the built-in face networks: chosen on development pairs, written as the package ships it.

    python benchmarks/stack_threshold.py PAIRS --images DIR [--far 1e-3 1e-2] [--policy centre]
        [--out src/facewright/faces/threshold.json] [--name NAME] [--vectors FILE.npz] [--threads 1]
        [--json]

Every photo once: find the face nearest to its centre, cut it out, embed it (`facewright.Recognizer`); in LFW that is
the person a photo is named after, whoever stands beside him. --policy largest takes the largest face instead.

Prints the accuracy over two halves of the people, each at the threshold that was best on the other, a photo without a
face being an error; and the threshold for each false-accept rate, with the pairs it rests on, or why these are too few.
The thresholds are also written to --out; the one for the rate named last is what `facewright verify A B` uses. Report
no number measured on the same pairs with them. --vectors keeps the vectors, or takes those that are kept for the same
networks, policy and photos.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from facewright import images
from facewright.data.pairs import Pairs, read_pairs
from facewright.decision import VERIFICATION, Decision
from facewright.embedding import similarities
from facewright.errors import Undefined
from facewright.evaluation.verification import verify_pairs
from facewright.files import write_atomic
from facewright.metrics.people import identity_bootstrap, people_of, weighted_share
from facewright.metrics.score_calibration import calibrate_scores
from facewright.metrics.thresholds import choose_threshold
from facewright.recognition import POLICIES, Policy, Recognizer
from facewright.workflows.calibrating import midway

COMMAND = ("python", "benchmarks/stack_threshold.py")
EACH = 128  # photos between two reports


def embedded(
    paths: list[str], folder: Path, recognizer: Recognizer, policy: Policy
) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    """(N, 128) unit vectors, NaN for a photo without a face; and the digest of each photo's pixels."""
    vectors, digests = np.full((len(paths), 128), np.nan, np.float32), []
    start = time.perf_counter()
    for first in range(0, len(paths), EACH):
        photos = [images.read(folder / path) for path in paths[first : first + EACH]]
        digests += [images.pixel_digest(photo) for photo in photos]
        picked = [recognizer.pick(photo, policy).face for photo in photos]
        rows = [first + row for row, face in enumerate(picked) if face is not None]
        vectors[rows] = recognizer.embed([face for face in picked if face is not None])
        print(
            f"{first + len(photos)} of {len(paths)}, {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True
        )
    return vectors, np.array(digests)


def kept(asked: argparse.Namespace, paths: list[str], recognizer: Recognizer) -> Any:
    """`embedded`, from the file of an earlier run where it is of the same networks and photos."""
    made_with = f"{recognizer.fingerprint} {asked.policy}"
    if asked.vectors is not None and asked.vectors.is_file():
        with np.load(asked.vectors, allow_pickle=False) as held:
            if str(held["made_with"]) == made_with and held["paths"].tolist() == paths:
                return held["vectors"], held["digests"]
    vectors, digests = embedded(paths, asked.images, recognizer, asked.policy)
    if asked.vectors is not None:
        np.savez(asked.vectors, vectors=vectors, digests=digests, made_with=np.array(made_with), paths=np.array(paths))
    return vectors, digests


def decided(scores: NDArray[np.float64], pairs: Pairs, far: float, digest: str, made_with: tuple[str, str]) -> Decision:
    """The threshold for one rate, as the package ships it; Undefined where the pairs are too few.

    Args:
        made_with: what the pairs are called, and the fingerprint of the networks.
    """
    name, fingerprint = made_with
    usable = ~np.isnan(scores)
    values, same = scores[usable], pairs.same[usable]
    people = np.array(pairs.people).reshape(-1, 2)[usable]
    who = people_of(people, same)
    counts = f"{int(same.sum()):,} genuine and {int((~same).sum()):,} impostor pairs of {who.count:,} people"
    said = f"{name}: {counts}"
    threshold = midway(choose_threshold(values[same], values[~same], far, said), values)
    return Decision(
        kind=VERIFICATION,
        threshold=threshold,
        calibration=calibrate_scores(values, same, said, people),
        far_by_identity=identity_bootstrap(weighted_share(values >= threshold.value, ~same), who)[0],
        people=who.count,
        failures=int((~usable).sum()),
        digest=digest,
        fingerprint=fingerprint,
        crop=1.0,
        flip=False,
    )


def measured(asked: argparse.Namespace) -> dict[str, Any]:
    recognizer = Recognizer()
    pairs = read_pairs(asked.pairs, asked.images)
    paths = sorted({*pairs.a, *pairs.b})
    vectors, digests = kept(asked, paths, recognizer)
    place = {path: row for row, path in enumerate(paths)}
    rows = np.array([[place[a], place[b]] for a, b in zip(pairs.a, pairs.b, strict=True)])
    with np.errstate(invalid="ignore"):
        scores = np.full(len(pairs), np.nan)
        usable = ~np.isnan(vectors[rows, 0]).any(axis=1)
        scores[usable] = similarities(vectors[rows[usable, 0]], vectors[rows[usable, 1]])
    result = verify_pairs(scores, pairs.same, np.array(pairs.people), failures=np.flatnonzero(~usable))
    digest = images.pixel_digest(np.frombuffer("".join(digests[rows].ravel()).encode(), np.uint8)[None, :, None])
    decisions, refused = [], {}
    for far in asked.far:
        try:
            decisions.append(decided(scores, pairs, far, digest, (asked.name or pairs.name, recognizer.fingerprint)))
        except Undefined as why:
            refused[f"{far:g}"] = str(why)
    options = ["--far", *map(str, asked.far), "--policy", asked.policy, "--name", asked.name or pairs.name]
    return {
        "command": shlex.join([*COMMAND, asked.pairs.name, *options]),
        "pairs": len(pairs),
        "photos": len(paths),
        "photos_without_a_face": int(np.isnan(vectors[:, 0]).sum()),
        "accuracy": None if result.accuracy is None else result.accuracy.to_dict(),
        "accuracy_by_identity": None if result.accuracy_by_identity is None else result.accuracy_by_identity.to_dict(),
        "failures": result.failures,
        "half_thresholds": None if result.folds is None else list(result.folds.thresholds),
        "eer": result.eer,
        "decisions": [decision.to_dict() for decision in decisions],
        "refused": refused,
    }


def show(found: dict[str, Any]) -> None:
    print(f"{found['photos']} photos, {found['photos_without_a_face']} without a face")
    for name in ("accuracy", "accuracy_by_identity"):
        rate = found[name]
        if rate is not None:
            print(f"{name} {rate['value']:.4f} ({rate['low']:.4f} to {rate['high']:.4f}, n={rate['n']})")
    print(f"failures to acquire {found['failures']} pairs; thresholds of the halves {found['half_thresholds']}")
    print(f"EER {found['eer']:.4f}")
    for decision in found["decisions"]:
        one = decision["threshold"]
        far, tar = one["far"], one["tar"]
        print(f"FAR {one['far_target']:g}: threshold {one['value']:.4f}, achieved {far['value']:.4f} of {far['n']}"
              f" ({far['low']:.4f} to {far['high']:.4f}), accepts {tar['value']:.4f} of {tar['n']}")  # fmt: skip
    for far, why in found["refused"].items():
        print(f"FAR {far}: refused: {why}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--far", type=float, nargs="+", default=[1e-3, 1e-2])
    parser.add_argument("--policy", choices=POLICIES[:2], default="centre", help="which of several faces")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--name", help="what the pairs are, for the record; the list's own name if left out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    found = measured(asked)
    if asked.out is not None:
        write_atomic(asked.out, (json.dumps(found, indent=1) + "\n").encode())
    if asked.json:
        json.dump(found, sys.stdout)
        print()
    else:
        show(found)


if __name__ == "__main__":
    main()
