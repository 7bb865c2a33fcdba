"""The built-in face networks against dlib: the same numbers, in less time.

    python benchmarks/face_stack.py --photos lfw/ [--count 200] [--threads 2] [--json]
    python benchmarks/face_stack.py --photos lfw/ --groups groups/images

Needs dlib-bin (a development dependency). The first part runs both over `count` photos of one face or more, evenly
taken from the folder: detections, landmarks, chips, embeddings of equal chips, and of each side's own pipeline from
the photo on. The second takes the time of embedding and detecting, in turn, the best of some rounds. dlib's speed does
not gain from threads or batches; both ways are tried. --groups: photos of many faces, enlarged for the first part.
What the detectors find is measured by benchmarks/finding.py.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlib
import numpy as np
from detectors import Cascade, Hog, as_array, image_paths
from numpy.typing import NDArray
from PIL import Image

from facewright import images
from facewright.faces.alignment import align_face
from facewright.faces.dlib import files as dlib_files
from facewright.faces.dlib.detection import FaceDetector, FivePoints
from facewright.faces.dlib.graphs import FaceVectors
from facewright.metrics.detection import iou

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
DLIB_BATCH = 16


class Ours:
    """This package's stack."""

    def __init__(self) -> None:
        self.detector, self.points, self.vectors = FaceDetector.load(), FivePoints.load(), FaceVectors.load()

    def boxes(self, photo: Pixels) -> tuple[Floats, Floats]:
        return self.detector.find(photo)

    def landmarks(self, photo: Pixels, box: Floats) -> Floats:
        return np.asarray(self.points.of(photo, box[None])[0])

    def chip(self, photo: Pixels, points: Floats) -> Pixels:
        return align_face(photo, points)

    def embed(self, chips: Pixels) -> NDArray[np.float32]:
        return self.vectors.of(chips)


class Theirs:
    """dlib's."""

    def __init__(self) -> None:
        names = (dlib_files.DETECTOR, dlib_files.FIVE_POINTS, dlib_files.EMBEDDING)
        detector, points, vectors = (str(dlib_files.package_file(name)) for name in names)
        self.detector = dlib.cnn_face_detection_model_v1(detector)
        self.points = dlib.shape_predictor(points)
        self.vectors = dlib.face_recognition_model_v1(vectors)
        self.hog = Hog()

    def boxes(self, photo: Pixels) -> tuple[Floats, Floats]:
        found = sorted(self.detector(photo, 0), key=lambda face: -face.confidence)
        return as_array([face.rect for face in found]), np.array([face.confidence for face in found])

    def shape(self, photo: Pixels, box: Floats) -> Any:
        left, top, width, height = (int(value) for value in box)
        return self.points(photo, dlib.rectangle(left, top, left + width - 1, top + height - 1))

    def landmarks(self, photo: Pixels, box: Floats) -> Floats:
        return np.array([[part.x, part.y] for part in self.shape(photo, box).parts()], np.float64)

    def chip(self, photo: Pixels, box: Floats) -> Pixels:
        return np.asarray(dlib.get_face_chip(photo, self.shape(photo, box), 150, 0.25))

    def embed(self, chips: Pixels) -> Floats:
        return np.array([self.vectors.compute_face_descriptor(one) for one in chips])

    def embed_in_batches(self, chips: Pixels) -> Floats:
        parts = [list(chips[first : first + DLIB_BATCH]) for first in range(0, len(chips), DLIB_BATCH)]
        return np.concatenate([np.array(self.vectors.compute_face_descriptor(part)) for part in parts])


@dataclass
class Parity:
    """The largest differences seen."""

    photos: int = 0
    detections: int = 0
    only_one_side: int = 0  # detections that the other does not have
    least_iou: float = 1.0
    score: float = 0.0
    faces: int = 0  # that were aligned and embedded
    landmark_px: float = 0.0
    chip_levels: int = 0  # of 255
    embedding_of_one_chip: float = 0.0
    embedding_end_to_end: float = 0.0

    def boxes(self, ours: tuple[Floats, Floats], theirs: tuple[Floats, Floats]) -> None:
        self.photos += 1
        self.detections += len(theirs[0])
        shared = iou(theirs[0], ours[0])
        best = shared.max(axis=1, initial=0.0)
        self.only_one_side += int((best == 0).sum() + (shared.max(axis=0, initial=0.0) == 0).sum())
        self.least_iou = min(self.least_iou, float(best.min(initial=1.0)))
        if len(best) and len(ours[1]):
            self.score = max(self.score, float(np.abs(theirs[1] - ours[1][shared.argmax(axis=1)]).max()))

    def embeddings(self, ours: Any, theirs: Any, own: Any) -> None:
        """Compare our and their embeddings of the same face crops, and theirs with our end-to-end embeddings."""
        self.faces += len(theirs)
        away = np.linalg.norm(ours - theirs, axis=1).max(initial=0.0)
        self.embedding_of_one_chip = max(self.embedding_of_one_chip, float(away))
        away = np.linalg.norm(own - theirs, axis=1).max(initial=0.0)
        self.embedding_end_to_end = max(self.embedding_end_to_end, float(away))


def compare(ours: Ours, theirs: Theirs, photos: list[Pixels]) -> tuple[Parity, Pixels]:
    """Measure the differences between the two; return also dlib's face crops, for the times."""
    found = Parity()
    chips, own = [], []
    for photo in photos:
        one, other = ours.boxes(photo), theirs.boxes(photo)
        found.boxes(one, other)
        for box in other[0][:1]:
            points = theirs.landmarks(photo, box)
            found.landmark_px = max(found.landmark_px, float(np.abs(ours.landmarks(photo, box) - points).max()))
            cut = theirs.chip(photo, box)
            away = np.abs(ours.chip(photo, points).astype(int) - cut).max()
            found.chip_levels = max(found.chip_levels, int(away))
            chips.append(cut)
            own.append(ours.chip(photo, ours.landmarks(photo, one[0][0])) if len(one[0]) else np.zeros_like(cut))
    same, mine = np.stack(chips), np.stack(own)
    found.embeddings(ours.embed(same), theirs.embed(same), ours.embed(mine))
    return found, same


def best_of(rounds: int, ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of each way, taken in turn; the best of some rounds, after one that does not count."""
    taken = dict.fromkeys(ways, float("inf"))
    for number in range(rounds + 1):
        for way, run in ways.items():
            start = time.perf_counter()
            run()
            if number:
                taken[way] = min(taken[way], time.perf_counter() - start)
    return taken


def times(ours: Ours, theirs: Theirs, photos: list[Pixels], chips: Pixels, rounds: int) -> dict[str, Any]:
    """Faces a second and milliseconds a photo."""
    few, some = photos[:4], chips[:64]
    haar = Cascade("frontalface_default") if has_opencv() else None
    embedding = best_of(
        rounds,
        {
            "ours": lambda: ours.embed(some),
            "ours, one by one": lambda: [ours.embed(one[None]) for one in some[:8]],
            "dlib": lambda: theirs.embed(some[:8]),
            "dlib, in batches": lambda: theirs.embed_in_batches(some[:DLIB_BATCH]),
        },
    )
    counts = {"ours": len(some), "ours, one by one": 8, "dlib": 8, "dlib, in batches": DLIB_BATCH}
    rates = {way: min(counts[way], len(some)) / seconds for way, seconds in embedding.items()}
    detection = best_of(
        rounds,
        {
            "ours": lambda: [ours.boxes(photo) for photo in few],
            "dlib's CNN": lambda: [theirs.boxes(photo) for photo in few],
            "dlib's HOG": lambda: [theirs.hog.find(photo) for photo in few],
            **({"Haar": lambda: [haar.find(photo) for photo in few]} if haar is not None else {}),
        },
    )
    milliseconds = {way: 1e3 * seconds / len(few) for way, seconds in detection.items()}
    return {
        "faces_a_second": rates,
        "embedding_ratio": rates["ours"] / max(rates["dlib"], rates["dlib, in batches"]),
        "photo": list(few[0].shape[:2]),
        "milliseconds_a_photo": milliseconds,
        "detection_ratio": milliseconds["dlib's CNN"] / milliseconds["ours"],
    }


def has_opencv() -> bool:
    try:
        import cv2  # noqa: F401
    except ImportError:
        return False
    return True


def show(parity: Parity, timed: dict[str, Any]) -> None:
    """All of it, for people."""
    print(f"{parity.photos} photos, {parity.detections} detections, {parity.faces} faces; largest differences to dlib:")
    boxes = f"IoU {parity.least_iou:.3f} or more, {parity.only_one_side} on one side only, score {parity.score:.0e}"
    print(f"  boxes       {boxes}")
    print(f"  landmarks   {parity.landmark_px:.2f} px; face crops {parity.chip_levels} of 255")
    print(f"  embeddings  {parity.embedding_of_one_chip:.1e} of one crop, {parity.embedding_end_to_end:.1e} end to end")
    for way, rate in timed["faces_a_second"].items():
        print(f"embedding   {way:<20}{rate:>8.1f} faces/s")
    print(f"embedding   {timed['embedding_ratio']:.1f} times dlib's better way")
    for way, milliseconds in timed["milliseconds_a_photo"].items():
        print(f"detection   {way:<20}{milliseconds:>8.1f} ms for {timed['photo'][1]}x{timed['photo'][0]} px")
    print(f"detection   {timed['detection_ratio']:.1f} times dlib's CNN")


def taken(paths: list[Path], count: int) -> list[Pixels]:
    """Photos evenly from a list."""
    chosen = [paths[int(index)] for index in np.linspace(0, len(paths) - 1, min(count, len(paths)))]
    return [images.read(path) for path in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    parser.add_argument("--count", type=int, default=220, help="photos that are compared")
    parser.add_argument("--groups", type=Path, nargs="*", default=[], help="photos of many faces")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    asked = parser.parse_args()
    os.environ["FACEWRIGHT_THREADS"] = str(asked.threads)
    ours, theirs = Ours(), Theirs()
    groups = image_paths(asked.groups) if asked.groups else []
    photos = taken(image_paths(asked.photos), asked.count)
    doubled = [
        np.asarray(Image.fromarray(p).resize((2 * p.shape[1], 2 * p.shape[0]))) for p in map(images.read, groups)
    ]
    parity, chips = compare(ours, theirs, photos)
    for photo in doubled:  # many faces, of many sizes
        parity.boxes(ours.boxes(photo), theirs.boxes(photo))
    timed = times(ours, theirs, photos, chips, asked.rounds)
    if asked.json:
        json.dump({"parity": vars(parity), "speed": timed}, sys.stdout)
        print()
    else:
        show(parity, timed)


if __name__ == "__main__":
    main()
