"""The threshold of the built-in face networks: chosen on development pairs, written as the package ships it.

    python benchmarks/stack_threshold.py PAIRS --images DIR [--far 1e-3 1e-2] [--select-face centre]
        [--out src/facewright/faces/threshold.json] [--name NAME] [--threads 1] [--json]

Every photo once: find the face nearest to its centre, cut it out, embed it (`facewright.Recognizer`); in LFW that is
the person whom the photo is named after. --select-face largest takes the largest face instead.

Prints the accuracy over two halves of the people, each at the threshold that was best on the other, a photo without a
face being an error; and the threshold for each false-accept rate, with the pairs it rests on, or why these are too few.
The thresholds are also written to --out, with the histograms of the scores; the one for the rate named last is what
`facewright verify A B` uses. Report no number measured on the same pairs with them.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from facewright.errors import Undefined
from facewright.evaluation.verification import verify_pairs
from facewright.events import Event, Message, Progress
from facewright.faces.selection import SELECTIONS
from facewright.files import write_atomic
from facewright.recognition import Recognizer
from facewright.workflows.calibration import choose
from facewright.workflows.scores import score_pairs

COMMAND = ("python", "benchmarks/stack_threshold.py")


def tell(event: Event) -> None:
    if isinstance(event, Message):
        print(event.text, file=sys.stderr)
    elif isinstance(event, Progress):
        print(f"{event.task}: {event.done} of {event.total}", file=sys.stderr, flush=True)


def measured(asked: argparse.Namespace) -> dict[str, Any]:
    recognizer = Recognizer()
    scored = score_pairs(recognizer, asked.pairs, asked.images, tell, asked.select_face)
    scored = replace(scored, pairs=replace(scored.pairs, name=asked.name or scored.pairs.name))
    result = verify_pairs(scored.scores, scored.pairs.same, scored.people, scored.pairs.fold, scored.failures)
    decisions, refused = [], {}
    for far in asked.far:
        try:
            decisions.append(choose(scored, recognizer, far)[0])
        except Undefined as why:
            refused[f"{far:g}"] = str(why)
    dataset = scored.embedded.dataset
    options = ["--far", *map(str, asked.far), "--select-face", asked.select_face, "--name", scored.pairs.name]
    return {
        "command": shlex.join([*COMMAND, asked.pairs.name, *options]),
        "pairs": len(scored.pairs),
        "photos": len(dataset) + len(dataset.broken),
        "photos_without_a_face": len(dataset.broken),
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
        far, tar = decision["far"], decision["tar"]
        print(
            f"FAR {decision['far_target']:g}: threshold {decision['value']:.4f}, achieved {far['value']:.4f} "
            f"of {far['n']} ({far['low']:.4f} to {far['high']:.4f}), accepts {tar['value']:.4f} of {tar['n']}"
        )
    for far, why in found["refused"].items():
        print(f"FAR {far}: refused: {why}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--far", type=float, nargs="+", default=[1e-3, 1e-2])
    parser.add_argument(
        "--select-face", "--policy", choices=SELECTIONS[:2], default="centre", help="which of several faces"
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--name", help="what the pairs are, for the record; default: the list's own name")
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
