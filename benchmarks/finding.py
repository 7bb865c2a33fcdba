"""How well each detector finds the faces of photos with true boxes, and how long a photo takes it.

    python benchmarks/finding.py --photos groups/images --boxes groups/boxes.csv [--yunet FILE.onnx] [--draw DIR]
        [--rounds 3] [--threads 1] [--json]

This package's detector (dlib's network), YuNet, dlib's HOG detector, and OpenCV's Haar cascades, each as it comes and,
where it can be told to, looking for smaller faces; needs dlib-bin (a development dependency) and OpenCV 4.

Every detector draws its boxes another way, so each gets one frame: where the true boxes lie in its own, by the photos
that are not for testing. A box counts at an overlap of 0.5. All that a detector gives at its own threshold is counted;
average precision is over that too. The times are taken in turn, the best of some rounds for each detector.

Prints a table for the README, then the true faces that each does not find. --draw writes every photo once a detector:
its boxes in amber with their scores, true ones in cyan. Photos that the table of boxes does not know are drawn and
their faces counted, nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
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
    frame_of,
    judged,
)

from facewright import images
from facewright.data.boxes import TrueBoxes, read_boxes
from facewright.faces.dlib.detector import WINDOW, FaceDetector, searchable
from facewright.faces.frame import Frame
from facewright.faces.yunet import WINDOW as YUNET
from facewright.faces.yunet import YuNet
from facewright.metrics.detection import OVERLAP, iou
from facewright.report.boxes import draw_boxes
from facewright.workflows.prediction import pictures_in

Find = Callable[[Pixels], tuple[Any, ...]]  # boxes and scores, and perhaps more


@dataclass(frozen=True)
class Way:
    """A detector, as it is asked here."""

    name: str
    find: Find


def ways(yunet: Path | None) -> list[Way]:
    """All of them, loaded."""
    ours, hog = FaceDetector.load(), Hog()
    found = [Way("dlib's CNN as it comes (80 px)", ours.find)]
    found += [Way(f"dlib's CNN, from {side} px", partial(from_side, ours.find, WINDOW, side)) for side in (40, 20)]
    if yunet is not None:
        other = YuNet.load(yunet)
        found.append(Way("YuNet", other.find))
        found += [Way(f"YuNet, from {side} px", partial(from_side, other.find, YUNET, side)) for side in (40, 20)]
    found += [Way("dlib's HOG", hog.find), Way("dlib's HOG, photo doubled", partial(hog.find, doublings=1))]
    return found + [Way(f"Haar, {name}", Cascade(name).find) for name in CASCADES]


def from_side(find: Callable[..., Any], window: int, side: float, photo: Pixels) -> Any:
    """What is found from a smallest side on; in photos of millions of pixels from a larger one."""
    return find(photo, smallest=searchable(photo, side, window))


def timed(every: list[Way], photos: list[Pixels], rounds: int) -> dict[str, tuple[Detections, float | None]]:
    """What each finds, and its milliseconds a photo: the best of some rounds, after one that does not count."""
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
        results[name] = judged(found, known, frame=frame) | {
            "milliseconds": milliseconds,
            "missed": {photo: boxes for photo, boxes in lost.items() if boxes},
        }
        if draw is not None:
            for path, photo, (boxes, scores), truth in zip(known.paths, known.photos, found, known.truth, strict=True):
                written(draw, path, name, draw_boxes(photo, frame.boxes(boxes), scores.tolist(), truth))
    return results


def counted(every: list[Way], paths: list[Path], frames: dict[str, Frame], draw: Path | None) -> dict[str, Any]:
    """How many faces each finds in photos without true boxes."""
    counts: dict[str, Any] = {}
    for path in paths:
        photo = images.read(path)
        for way in every:
            boxes, scores = way.find(photo)[:2]
            counts.setdefault(path.name, {})[way.name] = len(boxes)
            if draw is not None:
                written(draw, path, way.name, draw_boxes(photo, frames[way.name].boxes(boxes), scores.tolist()))
    return counts


def written(folder: Path, photo: Path, way: str, picture: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    plain = "".join(letter if letter.isalnum() else "-" for letter in way)
    (folder / f"{photo.stem}-{plain}.png").write_bytes(picture)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    parser.add_argument("--boxes", type=Path, required=True, help="their true boxes: file[,split],x,y,w,h")
    parser.add_argument("--yunet", type=Path, help="YuNet's ONNX file")
    parser.add_argument("--draw", type=Path, help="a folder for the photos with the boxes drawn in")
    parser.add_argument("--rounds", type=int, default=3, help="of measuring times; 0 measures none")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    import cv2  # type: ignore[import-not-found]

    cv2.setNumThreads(asked.threads)
    table: TrueBoxes = read_boxes(asked.boxes)
    paths = pictures_in(asked.photos)
    known, every = annotated(paths, table), ways(asked.yunet)
    if not known.paths:
        raise SystemExit(f"{asked.boxes} knows none of the {len(paths)} photos")
    results = measured(every, known, asked.rounds, asked.draw)
    frames = {name: Frame(**result["frame"]) for name, result in results.items()}
    counts = counted(every, [path for path in paths if path not in known.paths], frames, asked.draw)
    if asked.json:
        json.dump({"photos": len(known.photos), "detectors": results, "without_boxes": counts}, sys.stdout)
        print()
    else:
        show(known, results, counts)


if __name__ == "__main__":
    main()
