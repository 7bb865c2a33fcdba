"""Estimate of dlib's square around a face that YuNet found: the constants of `dlib_squares`.

    python benchmarks/yunet_frame.py --photos lfw/ --yunet FILE.onnx [--count 600] [--threads 1] [--json]

Both detectors run over the same photos, each enlarged or reduced by chance (0.8 to 2.5 times), cut by up to 24 px at
its left and upper edge and mirrored every second time, because dlib's boxes lie on a grid and LFW's faces all in one
place. The side of the square is fitted as a share of YuNet's width and height, and its middle as a share of that side
below YuNet's (least squares over two thirds of the photos, relative to dlib's side). The rest says how well it does:
how the squares overlap dlib's; and how far the five points that dlib's trees find move from dlib's box to the square,
beside how far they move from dlib's box to the one it gives at another size of the photo.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectors import image_paths
from numpy.typing import NDArray
from PIL import Image

from facewright import images
from facewright.faces.dlib.detection import FaceDetector, FivePoints
from facewright.faces.onnx_detectors import OnnxDetector, dlib_squares
from facewright.metrics.detection import iou

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]
SMALLEST, LARGEST = 0.8, 2.5  # times as large as the photo
CUT = 24  # px
ALIKE = 0.3  # overlap from which on both are taken to be of one face


@dataclass
class Faces:
    """The faces that both detectors found."""

    theirs: Floats  # (N, 4) dlib's boxes
    ours: Floats  # (N, 4) YuNet's
    photo: NDArray[np.int64]  # (N,)
    moved: Floats  # (N,) mean movement of the five points between dlib's box and the square, in dlib's sides
    moved_by_dlib: Floats  # (N,) the same between dlib's box and the one it gives at another size; NaN where none


def changed(photo: Pixels, draw: np.random.Generator) -> Pixels:
    """A photo in another size, cut and mirrored by chance."""
    scale = draw.uniform(SMALLEST, LARGEST)
    left, top = draw.integers(0, CUT, 2)
    size = round(photo.shape[1] * scale), round(photo.shape[0] * scale)
    resized = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR))[top:, left:]
    return np.ascontiguousarray(resized[:, ::-1] if draw.integers(2) else resized)


def found(paths: list[Path], yunet: OnnxDetector) -> Faces:
    """Each face that both find."""
    dlib, trees, draw = FaceDetector.load(), FivePoints.load(), np.random.default_rng(0)
    rows: list[tuple[Any, ...]] = []
    for number, path in enumerate(paths):
        photo = changed(images.read(path), draw)
        theirs, ours = dlib.find(photo)[0], yunet.find(photo)[0]
        again = dlib.find(photo, smallest=70)[0]
        for box in theirs if len(ours) else ():
            shared = iou(box[None], ours)[0]
            if shared.max() < ALIKE:
                continue
            other = ours[shared.argmax()]
            points = trees.of(photo, [box, dlib_squares([other])[0]])
            near = iou(box[None], again)[0] if len(again) else np.zeros(1)
            second = trees.of(photo, [again[near.argmax()]])[0] if near.max() >= ALIKE else np.full((5, 2), np.nan)
            moved = [float(np.linalg.norm(points[0] - to, axis=1).mean() / box[2]) for to in (points[1], second)]
            rows.append((box, other, number, *moved))
        if number % 100 == 99:
            print(f"{number + 1} of {len(paths)}", file=sys.stderr, flush=True)
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return Faces(*columns)


def fitted(faces: Faces, rows: NDArray[np.bool_]) -> tuple[Floats, float]:
    """Side of the square for a px of YuNet's width and of its height; how far below its middle, in sides."""
    side = faces.theirs[rows, 2]
    share, *_ = np.linalg.lstsq(faces.ours[rows, 2:] / side[:, None], np.ones(len(side)), rcond=None)
    middle = [boxes[rows, 1] + boxes[rows, 3] / 2 for boxes in (faces.theirs, faces.ours)]
    return share, float(((middle[0] - middle[1]) / side).mean())


def squares(boxes: Floats, share: Floats, down: float) -> Floats:
    side = boxes[:, 2:] @ share
    middle = boxes[:, :2] + boxes[:, 2:] / 2 + np.outer(side, (0.0, down))
    return np.column_stack([middle - side[:, None] / 2, side, side])


def measured(paths: list[Path], yunet: OnnxDetector) -> dict[str, Any]:
    faces = found(paths, yunet)
    rest = faces.photo % 3 == 0
    share, down = fitted(faces, ~rest)
    overlaps = {
        name: float(
            np.mean([iou(a[None], b[None])[0, 0] for a, b in zip(faces.theirs[rest], boxes[rest], strict=True)])
        )
        for name, boxes in (
            ("as fitted", squares(faces.ours, share, down)),
            ("as shipped", dlib_squares(faces.ours)),
            ("YuNet's own", faces.ours),
        )
    }
    return {
        "photos": len(paths),
        "faces": len(rest),
        "side": share.tolist(),
        "down": down,
        "held_out": int(rest.sum()),
        "overlap": overlaps,
        "points_moved": {
            "as shipped": float(np.median(faces.moved[rest])),
            "dlib at another size": float(np.nanmedian(faces.moved_by_dlib[rest])),
        },
    }


def show(result: dict[str, Any]) -> None:
    across, up = result["side"]
    print(f"{result['photos']} photos, {result['faces']} faces that both find; {result['held_out']} of them held out")
    print(f"side = {across:.3f} width + {up:.3f} height; middle {result['down']:.3f} sides below YuNet's")
    for name, share in result["overlap"].items():
        print(f"overlap with dlib's boxes, {name:<12} {share:.3f}")
    for name, share in result["points_moved"].items():
        print(f"points moved by, {name:<21} {100 * share:.2f} % of a side")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    parser.add_argument("--yunet", type=Path, required=True, help="YuNet's ONNX file")
    parser.add_argument("--count", type=int, default=600, help="photos, taken evenly")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    paths = image_paths(asked.photos)
    chosen = [paths[int(index)] for index in np.linspace(0, len(paths) - 1, min(asked.count, len(paths)))]
    result = measured(chosen, OnnxDetector.load(asked.yunet))
    if asked.json:
        json.dump(result, sys.stdout)
        print()
    else:
        show(result)


if __name__ == "__main__":
    main()
