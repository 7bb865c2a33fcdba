"""Accuracy and speed of each detector on photos with true boxes.

    python benchmarks/finding.py --photos groups/images --boxes groups/boxes.csv [--detectors FILE.onnx ...]
        [--heights 30 20 16 12] [--cut 0.4] [--peers] [--draw DIR] [--rounds 3] [--json]

This package's detectors (dlib's network, and those of ONNX files), as `faces` uses them and from some smallest side on;
with --peers dlib's HOG detector and OpenCV's Haar cascades, which need dlib-bin and OpenCV 4. The photos come as they
are, and shrunk until the middle one of their faces is as high as --heights say, px.

--cut cuts every photo through every face, at each of its sides, so that a share of its box is lost, and counts the
faces that are still found: ONNX detectors with the grey margin around the photo, as they come, and without it, which
are also compared on the whole photos.

Every detector draws its boxes another way, so each gets one frame: where the true boxes lie in its own, by the photos
that are not for testing. A box counts at an overlap of 0.5. All that a detector gives at its own threshold is counted.
The times are taken in turn, the best of some rounds for each detector. $FACEWRIGHT_THREADS says how many threads.

Prints a table for the docs, then the true faces that each does not find. --draw writes every photo once a detector:
its boxes in amber with their scores, true ones in cyan. Photos that the table of boxes does not know are drawn and
their faces counted, nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from detectors import (
    CASCADES,
    SMALLEST,
    Annotated,
    Cascade,
    Detections,
    Floats,
    Hog,
    Pixels,
    annotated,
    evaluate,
    frame_of,
    image_paths,
)
from PIL import Image

from facewright import images
from facewright.data.label_files import TrueBoxes, read_boxes
from facewright.faces import onnx_detectors
from facewright.faces.boxes import Frame
from facewright.faces.detectors import EVERY, Detector, detector_of
from facewright.metrics.detection import OVERLAP, iou
from facewright.report.faces import draw_boxes

Find = Callable[[Pixels], tuple[Any, ...]]  # boxes and scores, and perhaps more


@dataclass(frozen=True)
class Way:
    """A detector, as it is asked here."""

    name: str
    find: Find


def without_margin(find: Find, photo: Pixels) -> tuple[Any, ...]:
    """Find faces with nothing around the photo."""
    margin, onnx_detectors.MARGIN = onnx_detectors.MARGIN, 0
    try:
        return find(photo)
    finally:
        onnx_detectors.MARGIN = margin


def both_margins(detectors: list[str]) -> list[Way]:
    """ONNX detectors with the margin and without."""
    found = []
    for name in detectors:
        find = partial(located, detector_of(name), EVERY)
        found += [Way(name, find), Way(f"{name}, no margin", partial(without_margin, find))]
    return found


def cut_faces(way: Way, frame: Frame, known: Annotated, share: float) -> tuple[int, int]:
    """Return how many faces are found that the photo's border cuts, and how many there are."""
    hits = total = 0
    for photo, truth in zip(known.photos, known.truth, strict=True):
        height, width = photo.shape[:2]
        for x, y, w, h in truth:
            for left, top, right, bottom in (
                (round(x + share * w), 0, width, height),
                (0, round(y + share * h), width, height),
                (0, 0, round(x + (1 - share) * w), height),
                (0, 0, width, round(y + (1 - share) * h)),
            ):
                seen = np.array([max(x, left), max(y, top), min(x + w, right), min(y + h, bottom)])
                seen = np.array([[seen[0] - left, seen[1] - top, seen[2] - seen[0], seen[3] - seen[1]]])
                boxes = frame.boxes(way.find(np.ascontiguousarray(photo[top:bottom, left:right]))[0])
                ends = np.clip(boxes[:, :2] + boxes[:, 2:], 1, (right - left, bottom - top))
                starts = np.clip(boxes[:, :2], 0, ends - 1)
                hits += bool((iou(seen, np.hstack([starts, ends - starts])) >= OVERLAP).any())
                total += 1
    return hits, total


def ways(detectors: list[str], peers: bool) -> list[Way]:
    """All of them, loaded."""
    found = []
    for name in detectors:
        detector = detector_of(name)
        found.append(Way(detector.name, partial(located, detector, EVERY)))
        found += [Way(f"{detector.name}, from {side} px", partial(located, detector, (side,))) for side in (40, 20)]
    if peers:
        hog = Hog()
        found += [Way("dlib's HOG", hog.find), Way("dlib's HOG, photo doubled", partial(hog.find, doublings=1))]
        found += [Way(f"Haar, {name}", Cascade(name).find) for name in CASCADES]
    return found


def located(detector: Detector, sizes: tuple[float | None, ...], photo: Pixels) -> tuple[Any, ...]:
    """Return the detections at the first of some smallest sides that has any."""
    faces = detector.locate(photo, sizes)
    return faces.boxes, np.array(faces.scores, np.float64)


def shrunk(known: Annotated, height: float) -> Annotated:
    """The photos, smaller so that the middle one of their faces is so high, px."""
    photos, boxes = [], []
    for photo, truth in zip(known.photos, known.truth, strict=True):
        factor = min(1.0, height / float(np.median(truth[:, 3])))
        size = round(photo.shape[1] * factor), round(photo.shape[0] * factor)
        photos.append(np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS)))
        boxes.append(truth * factor)
    return replace(known, photos=photos, truth=boxes)


def timed(every: list[Way], photos: list[Pixels], rounds: int) -> dict[str, tuple[Detections, float | None]]:
    """Return each detector's faces and milliseconds per photo: the best of some rounds after a warm-up."""
    found: dict[str, Detections] = {}
    seconds: dict[str, list[float]] = {way.name: [] for way in every}
    for number in range(rounds + 1):
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
        for way in every:
            start = time.perf_counter()
            found[way.name] = [way.find(photo)[:2] for photo in photos]
            seconds[way.name].append(time.perf_counter() - start)
    best = {name: min(times[1:], default=None) for name, times in seconds.items()}
    return {name: (found[name], None if s is None else 1e3 * s / len(photos)) for name, s in best.items()}


def missed(boxes: Floats, truth: Floats) -> list[list[int]]:
    """The true boxes that nothing overlaps well enough."""
    best = iou(truth, boxes).max(axis=1, initial=0.0)
    return [[round(value) for value in box] for box in truth[best < OVERLAP].tolist()]


def measured(every: list[Way], known: Annotated, rounds: int, draw: Path | None) -> dict[str, Any]:
    """Each detector's numbers, frame, time and misses."""
    results = {}
    for name, (found, milliseconds) in timed(every, known.photos, rounds).items():
        frame = frame_of(found, known)
        pairs = list(zip(known.paths, found, known.truth, strict=True))
        lost = {path.name: missed(frame.boxes(boxes), truth) for path, (boxes, _), truth in pairs}
        results[name] = evaluate(found, known, frame=frame) | {
            "milliseconds": milliseconds,
            "missed": {photo: boxes for photo, boxes in lost.items() if boxes},
        }
        if draw is not None:
            for path, photo, (boxes, scores), truth in zip(known.paths, known.photos, found, known.truth, strict=True):
                written(draw, path, name, draw_boxes(photo, frame.boxes(boxes), scores.tolist(), truth))
    return results


def counted(every: list[Way], paths: list[Path], frames: dict[str, Frame], draw: Path | None) -> dict[str, Any]:
    """Count the faces that each detector finds in photos without true boxes."""
    counts: dict[str, Any] = {}
    for path in paths:
        photo = images.read(path)
        for way in every:
            boxes, scores = way.find(photo)[:2]
            counts.setdefault(path.name, {})[way.name] = len(boxes)
            if draw is not None:
                written(draw, path, way.name, draw_boxes(photo, frames[way.name].boxes(boxes), scores.tolist()))
    return counts


def written(folder: Path, photo: Path, way: str, image: images.Pixels) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    plain = "".join(letter if letter.isalnum() else "-" for letter in way)
    (folder / f"{photo.stem}-{plain}.png").write_bytes(images.png_of(image))


def show(known: Annotated, results: dict[str, Any], counts: dict[str, Any]) -> None:
    """A table for the README; then what is missed, and what was found in photos without true boxes."""
    faces = sum(map(len, known.truth))
    print(f"{len(known.photos)} photos, {faces} faces; Haar looks for faces from {SMALLEST} px")
    groups = [group for group in ("all", "test") if all(group in result for result in results.values())]
    heads = [f"{group}: AP | precision | recall" for group in groups]
    print(f"| | {' | '.join(heads)} | ms a photo |")
    print(f"|---{'|---' * 3 * len(groups)}|---|")
    for name, result in results.items():
        cells = [cell for group in groups for cell in cells_of(result[group])]
        taken = result["milliseconds"]
        print(f"| {name} | {' | '.join(cells)} | {'' if taken is None else f'{taken:.1f}'} |")
    for name, result in results.items():
        for photo, boxes in result["missed"].items():
            print(f"{name}: missed in {photo}: {', '.join(f'{w}x{h} px at {x},{y}' for x, y, w, h in boxes)}")
    for photo, by_way in counts.items():
        print(f"{photo} (no true boxes): {', '.join(f'{name} {count}' for name, count in by_way.items())}")


def cells_of(numbers: dict[str, Any]) -> list[str]:
    rates = [numbers["precision"], numbers["recall"]]
    said = [
        "undefined" if rate is None else "{:.1f} % ({:.0f} to {:.0f}, n={})".format(
            100 * rate["value"], 100 * rate["low"], 100 * rate["high"], rate["n"]
        )
        for rate in rates
    ]  # fmt: skip
    return [f"{numbers['ap']:.3f}", *said]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    parser.add_argument("--boxes", type=Path, required=True, help="their true boxes: file[,split],x,y,w,h")
    parser.add_argument("--detectors", nargs="*", default=[], help="ONNX files of detectors, beside dlib's")
    parser.add_argument("--heights", type=float, nargs="*", default=[], help="px: the photos shrunk to faces so high")
    parser.add_argument("--cut", type=float, default=0.0, help="share of each face's box that the border cuts off")
    parser.add_argument("--peers", action="store_true", help="also dlib's HOG detector and OpenCV's cascades")
    parser.add_argument("--draw", type=Path, help="a folder for the photos with the boxes drawn in")
    parser.add_argument("--rounds", type=int, default=3, help="of measuring times; 0 measures none")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    asked = parser.parse_args(arguments)
    table: TrueBoxes = read_boxes(asked.boxes)
    paths = image_paths(asked.photos)
    known, every = annotated(paths, table), ways(["dlib", *asked.detectors], asked.peers)
    if not known.paths:
        raise SystemExit(f"{asked.boxes} knows none of the {len(paths)} photos")
    results = measured(every, known, asked.rounds, asked.draw)
    small = {f"{height:g}": measured(every, shrunk(known, height), asked.rounds, None) for height in asked.heights}
    margins = both_margins(asked.detectors) if asked.cut else []
    around = measured(margins, known, asked.rounds, None) if margins else {}
    for way in margins:
        around[way.name]["cut"] = cut_faces(way, Frame(**around[way.name]["frame"]), known, asked.cut)
    frames = {name: Frame(**result["frame"]) for name, result in results.items()}
    counts = counted(every, [path for path in paths if path not in known.paths], frames, asked.draw)
    if asked.json:
        facts = {"photos": len(known.photos), "detectors": results, "shrunk": small, "without_boxes": counts}
        facts |= {"margins": around}
        print(json.dumps(facts))
        return
    show(known, results, counts)
    for height, shown in small.items():
        print(f"faces of {height} px:")
        show(known, shown, {})
    if around:
        print("with the margin and without:")
        show(known, around, {})
    for name, result in around.items():
        print("{}: {} of {} faces cut by the border".format(name, *result["cut"]))


if __name__ == "__main__":
    main()
