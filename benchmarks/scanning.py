"""Scanning: one pass over a photo against its patches one by one; and, with true boxes, against OpenCV's cascades.

    python benchmarks/scanning.py [--threads 1] [--json]
    python benchmarks/scanning.py --model runs/face-or-not --photos photos/ --boxes boxes.csv [--json]

The first part takes a drawn scene of 500 x 375 px (or the first photo) and scores the same patches three ways: in one
pass a level, in batches of 256, and one after the other, as a first attempt does it: cut, normalise, classify. It
prints the ratios and the largest difference of a probability. Without --model the weights are fresh; they change no
time.

The second part finds the faces of the photos with the model and with three Haar cascades of OpenCV (4; install
"opencv-python-headless<5"; 5 has none), and prints average precision, precision and recall at an overlap of 0.5. Every
one's boxes are brought to those of the table by a frame fitted on the photos that are not for testing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectors import CASCADES, SMALLEST, Cascade, annotated, evaluate, frame_of, image_paths
from numpy.typing import NDArray
from torch import nn

from facewright import bundle as bundles
from facewright import images
from facewright.data.augment import normalise
from facewright.data.label_files import TrueBoxes, read_boxes
from facewright.data.portrait import scene
from facewright.faces.scan import BATCH, Scanner, Search, levels
from facewright.input_spec import InputSpec
from facewright.models.catalog import create_model

CANDIDATE = 0.3  # probability from which on a patch of ours is a candidate: the curve goes down to it


def fresh() -> tuple[nn.Module, InputSpec, int]:
    """PatchNet with weights by chance."""
    torch.manual_seed(0)
    spec = InputSpec(64, 64, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return create_model("patchnet", 2, input_size=64).eval(), spec, 0


def trained(path: Path) -> tuple[nn.Module, InputSpec, int]:
    """The model of a run, and which of its classes is the face."""
    bundle = bundles.load(path / "model.safetensors" if path.is_dir() else path)
    return bundle.model(), bundle.spec, bundle.classes.index("face")


@torch.inference_mode()
def patch_by_patch(scanner: Scanner, pixels: NDArray[np.uint8], batch: int) -> NDArray[np.float64]:
    """The probabilities of `Scanner.probabilities`, from patches that are cut out one by one."""
    spec, step = scanner.spec, scanner.stride
    corners = [
        (top, left)
        for top in range(0, pixels.shape[0] - spec.height + 1, step)
        for left in range(0, pixels.shape[1] - spec.width + 1, step)
    ]
    chances = []
    for first in range(0, len(corners), batch):
        patches = [pixels[t : t + spec.height, x : x + spec.width] for t, x in corners[first : first + batch]]
        given = normalise(torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2), spec)
        assert scanner.model is not None
        chances.append(torch.softmax(scanner.model(given).double(), 1)[:, scanner.face])
    return torch.cat(chances).numpy()


def speed(scanner: Scanner, photo: NDArray[np.uint8], rounds: int) -> dict[str, Any]:
    """Seconds of each way for all levels of one photo, the pass as the best of some rounds, and how far they differ."""
    pictures = [level.pixels for level in levels(photo, scanner.spec, scanner.search)]
    ways: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.float64]]] = {
        "one pass": scanner.probabilities,
        f"batches of {BATCH}": lambda pixels: patch_by_patch(scanner, pixels, BATCH),
        "one by one": lambda pixels: patch_by_patch(scanner, pixels, 1),
    }
    seconds, said = dict.fromkeys(ways, float("inf")), {}
    for way, run in ways.items():
        run(pictures[-1])  # warmed up
        for _ in range(rounds if way == "one pass" else 1):
            start = time.perf_counter()
            said[way] = np.concatenate([run(pixels).ravel() for pixels in pictures])
            seconds[way] = min(seconds[way], time.perf_counter() - start)
    whole = seconds["one pass"]
    return {
        "photo": list(photo.shape[:2]),
        "patches": len(said["one pass"]),
        "seconds": seconds,
        "ratio": {way: value / whole for way, value in seconds.items()},
        "largest_difference": max(float(np.abs(values - said["one pass"]).max()) for values in said.values()),
    }


def accuracy(scanner: Scanner, paths: list[Path], table: TrueBoxes) -> dict[str, Any]:
    """Ours and the cascades on the photos that the table knows."""
    known = annotated(paths, table)
    start = time.perf_counter()
    faces = [scanner.find(photo) for photo in known.photos]
    seconds = time.perf_counter() - start
    found = [(f.boxes, f.scores) for f in faces]
    results = {"this scan": evaluate(found, known, frame=frame_of(found, known), choose=True) | {"seconds": seconds}}
    for name in CASCADES:
        finder = Cascade(name)
        start = time.perf_counter()
        found = [finder.find(photo) for photo in known.photos]
        seconds = time.perf_counter() - start
        results[f"Haar {name}"] = evaluate(found, known, frame=frame_of(found, known)) | {"seconds": seconds}
    return results


def show(timed: dict[str, Any], results: dict[str, Any]) -> None:
    """Both tables, for people."""
    height, width = timed["photo"]
    print(f"{timed['patches']:,} patches of a photo of {width}x{height} px")
    for way, seconds in timed["seconds"].items():
        print(f"{way:<16}{seconds:>9.3f} s {timed['ratio'][way]:>7.1f} x")
    print(f"largest difference of a probability: {timed['largest_difference']:.1e}")
    for name, result in results.items():
        print(f"{name}: {result['seconds']:.2f} s")
        for group in ("all", "train", "test"):
            if group in result:
                rates = [result[group]["precision"], result[group]["recall"]]
                said = [f"{100 * rate['value']:5.1f} % of {rate['n']}" if rate else "undefined" for rate in rates]
                print(f"  {group:<6} AP {result[group]['ap']:.3f}  precision {said[0]}  recall {said[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a run folder or bundle with the class 'face'")
    parser.add_argument("--photos", type=Path, nargs="*", default=[])
    parser.add_argument("--boxes", type=Path, help="their true boxes: file[,split],x,y,w,h")
    parser.add_argument("--smallest", type=float, default=112, help="px of the smallest patch that is timed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    asked = parser.parse_args()
    if (asked.boxes is None) != (asked.model is None) or (asked.boxes is not None and not asked.photos):
        raise SystemExit("to measure accuracy give --model, --photos and --boxes; to measure speed alone, none of them")
    torch.set_num_threads(asked.threads)
    model, spec, face = fresh() if asked.model is None else trained(asked.model)
    paths = image_paths(asked.photos)
    photo = images.read(paths[0]) if paths else scene(0, 0, 500, 375, 6)[0]
    scanner = Scanner(model, spec, face, Search(threshold=CANDIDATE, smallest=asked.smallest))
    if scanner.why_windows is not None:
        raise SystemExit(f"this network takes no whole photos: {scanner.why_windows}")
    timed = speed(scanner, photo, asked.rounds)
    searching = scanner.searching(replace(scanner.search, smallest=SMALLEST))
    results = {} if asked.boxes is None else accuracy(searching, paths, read_boxes(asked.boxes))
    if asked.json:
        json.dump({"speed": timed, "accuracy": results}, sys.stdout)
        print()
    else:
        show(timed, results)


if __name__ == "__main__":
    main()
