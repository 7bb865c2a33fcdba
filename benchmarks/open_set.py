"""Open-set identification: some people are enrolled with a few photos each, all other photos are probes.

    python benchmarks/open_set.py FOLDER [--models built-in ...] [--detectors dlib none] [--unknown 3] [--enrol 5]
        [--fpir 0.01] [--gallery-fpir 0.05] [--splits 20] [--threads 1] [--json]

FOLDER has a folder per person. For each model and detector every photo is embedded once. A seeded draw makes
all photos of some people (--unknown) non-mated probes and enrols --enrol photos of each other person; the rest of
theirs are the mated probes. Printed for the first draw:

    DIR      mated probes whose person is first and accepted, at the threshold that accepts at most --fpir of the
             non-mated probes: chosen on these same probes, as the protocol says (docs/protocols.md, "Identification")
    gallery  the same at the threshold that `Gallery.calibrate` chooses from the enrolled photos alone, for
             --gallery-fpir (45 photos cannot resolve 1 %), and the share of non-mated probes that it really accepts

and the spread of the DIR over all draws, since three unknown people are few. A photo without a face is a failure to
acquire: a mated one counts as a miss, a non-mated one as rejected, and their numbers are printed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from facewright.data.sources import open_dataset
from facewright.errors import Undefined
from facewright.events import ignore_event
from facewright.gallery.calibration import choose
from facewright.gallery.entries import Entry
from facewright.gallery.signatures import signature_of
from facewright.gallery.sqlite import SqliteStore
from facewright.metrics.identification import (
    OpenSetSplit,
    Search,
    open_set_at,
    open_set_rates,
    open_set_split,
    search_embeddings,
)
from facewright.metrics.intervals import Rate, clopper_pearson
from facewright.recognition import Recognizer
from facewright.workflows.scores import embed_all


@dataclass(frozen=True, eq=False)
class Embedded:
    """All photos of a folder; a row of NaN is a failure to acquire."""

    vectors: NDArray[np.float32]  # (N, D)
    names: NDArray[np.str_]  # (N,)

    @property
    def failed(self) -> NDArray[np.bool_]:
        return np.isnan(self.vectors[:, 0])


def embedded(recognizer: Recognizer, folder: Path) -> Embedded:
    dataset = open_dataset(folder)
    found = embed_all(recognizer, dataset, ignore_event)
    place = {record.path: row for row, record in enumerate(found.dataset.records)}
    vectors = np.full((len(dataset), recognizer.width), np.nan, np.float32)
    for row, record in enumerate(dataset.records):
        if record.path in place:
            vectors[row] = found.vectors[place[record.path]]
    return Embedded(vectors, np.array([dataset.classes[label] for label in dataset.labels]))


def searched(of: Embedded, split: OpenSetSplit) -> Search:
    """The probes that have a vector, looked up among the enrolled that have one."""
    gallery = split.gallery[~of.failed[split.gallery]]
    probes = np.concatenate([split.mated, split.nonmated])
    probes = probes[~of.failed[probes]]
    return search_embeddings(of.vectors[probes], of.names[probes], of.vectors[gallery], of.names[gallery])


def rates(found: Search, threshold: float, of: Embedded, split: OpenSetSplit) -> tuple[Rate, Rate]:
    """DIR and FPIR at a threshold, failures to acquire counted: a miss if mated, a rejection if non-mated."""
    point = open_set_rates(found, threshold)
    mates = int(found.mated.sum())
    hits, accepted = mates - round(point.fnir.value * mates), round(point.fpir.value * point.fpir.n)
    return clopper_pearson(hits, split.mated.size), clopper_pearson(accepted, split.nonmated.size)


def gallery_threshold(of: Embedded, split: OpenSetSplit, recognizer: Recognizer, fpir: float) -> float:
    """Return the threshold that a gallery of the enrolled photos chooses by itself."""
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "open.gallery", signature_of(recognizer))
        rows = split.gallery[~of.failed[split.gallery]]
        store.add([Entry(str(of.names[row]), of.vectors[row], str(row)) for row in rows])
        value: float = choose(store, fpir).value
        store.close()
    return value


def measured(asked: argparse.Namespace, model: str, detector: str) -> dict[str, Any]:
    recognizer = Recognizer.load(model, detector=detector)
    of = embedded(recognizer, asked.folder)
    people = np.unique(of.names).size
    splits = [open_set_split(of.names, seed, asked.unknown / people, asked.enrol) for seed in range(asked.splits)]
    first, found = splits[0], searched(of, splits[0])
    point = open_set_at(found, asked.fpir)
    spread = [rates(s, open_set_at(s, asked.fpir).threshold, of, split)[0].value for s, split in of_each(of, splits)]
    own: dict[str, Any]
    try:
        value = gallery_threshold(of, first, recognizer, asked.gallery_fpir)
        dir_, fpir = rates(found, value, of, first)
        own = {"target": asked.gallery_fpir, "threshold": value, "dir": dir_.to_dict(), "fpir": fpir.to_dict()}
    except Undefined as why:
        own = {"target": asked.gallery_fpir, "refused": str(why)}
    dir_, fpir = rates(found, point.threshold, of, first)
    lowest, median, highest = (float(np.percentile(spread, share)) for share in (0, 50, 100))
    return {
        "model": model if model == "built-in" else Path(model).name,
        "detector": detector,
        "enrolled_people": people - asked.unknown,
        "strangers": sorted(np.unique(of.names[first.nonmated]).tolist()),
        "enrolled": first.gallery.size,
        "mates": first.mated.size,
        "stranger_photos": first.nonmated.size,
        "failures": {
            "enrolled": int(of.failed[first.gallery].sum()),
            "mates": int(of.failed[first.mated].sum()),
            "strangers": int(of.failed[first.nonmated].sum()),
        },
        "protocol": {"target": asked.fpir, "threshold": point.threshold, "dir": dir_.to_dict(), "fpir": fpir.to_dict()},
        "gallery": own,
        "dir_over_draws": {"n": len(spread), "lowest": lowest, "median": median, "highest": highest},
    }


def of_each(of: Embedded, splits: list[OpenSetSplit]) -> Iterator[tuple[Search, OpenSetSplit]]:
    for split in splits:
        yield searched(of, split), split


def rate_text(rate: dict[str, Any]) -> str:
    return f"{100 * rate['value']:.1f} % ({100 * rate['low']:.1f} to {100 * rate['high']:.1f}, n={rate['n']:,})"


def show(rows: list[dict[str, Any]]) -> None:
    one = rows[0]
    print(
        f"{one['enrolled_people']} people, {one['enrolled']} photos enrolled; {one['mates']:,} mated probes, "
        f"{one['stranger_photos']:,} photos of unknown people ({', '.join(one['strangers'])})"
    )
    print(
        "| model | detector | no face | DIR | at FPIR | lowest, median, highest | gallery: DIR | its FPIR (asked for) |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        protocol, own, over = row["protocol"], row["gallery"], row["dir_over_draws"]
        mine = ("refused", own["refused"]) if "refused" in own else (rate_text(own["dir"]), rate_text(own["fpir"]))
        draws = ", ".join(f"{100 * over[name]:.1f}" for name in ("lowest", "median", "highest"))
        print(
            f"| {row['model']} | {row['detector']} | {sum(row['failures'].values())} | {rate_text(protocol['dir'])} "
            f"| {rate_text(protocol['fpir'])} | {draws} % | {mine[0]} | {mine[1]} ({100 * own['target']:g} %) |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="+", default=["built-in"])
    parser.add_argument("--detectors", nargs="+", default=["dlib", "none"])
    parser.add_argument("--unknown", "--strangers", type=int, default=3, help="people kept out of the gallery")
    parser.add_argument("--enrol", type=int, default=5)
    parser.add_argument("--fpir", type=float, default=0.01)
    parser.add_argument("--gallery-fpir", type=float, default=0.05)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    rows = []
    for model in asked.models:
        for detector in asked.detectors:
            rows.append(measured(asked, model, detector))
            print(f"{rows[-1]['model']}, {detector}: done", file=sys.stderr, flush=True)
    if asked.json:
        json.dump({"folder": asked.folder.name, "rows": rows}, sys.stdout)
        print()
    else:
        show(rows)


if __name__ == "__main__":
    main()
