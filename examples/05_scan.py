"""Scan: train a network on small patches, face or not, and find the faces of whole photos with it.

    python examples/05_scan.py                       # synthetic groups of people
    python examples/05_scan.py patches/ photos/      # your own: face/ and nonface/ in a folder, and photos to scan

On the command line:

    facewright train patches/ --model patchnet --recipe face-or-not
    facewright scan RUN photos/ --boxes boxes.csv --draw found/
"""

import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

import facewright as fw
from facewright.data.synthetic import scene
from facewright.metrics.detection import iou

own = sys.argv[1:]
folder, draws = Path("runs", f"scan-{time.strftime('%Y%m%d-%H%M%S')}"), np.random.default_rng(0)
patches = Path(own[0]) if own else folder / "patches"
photos = Path(own[1]) if len(own) > 1 else folder / "photos"

# Without patches of yours: from synthetic groups, the square around each face, and squares without a face.
for index in range(50 if not own else 0):
    pixels, faces = scene(seed=0, index=index, width=200, height=150, faces=3)
    middles, sides = faces[:, :2] + faces[:, 2:] / 2, 1.2 * faces[:, 2:].max(axis=1, keepdims=True)
    squares = np.hstack([np.clip(middles - sides / 2, 0, [200, 150] - sides), sides, sides])
    sides = 24 * 6 ** draws.random((20, 1))
    places = np.hstack([draws.random((20, 2)) * ([200, 150] - sides), sides, sides])
    for name, boxes in {"face": squares, "nonface": places[iou(places, squares).max(axis=1) < 0.3]}.items():
        (patches / name).mkdir(parents=True, exist_ok=True)
        for number, (x, y, w, h) in enumerate(boxes):
            patch = Image.fromarray(pixels).crop((x, y, x + w, y + h)).resize((64, 64))
            patch.save(patches / name / f"{index}-{number}.png")

# The recipe is made for this task. With mining.photos it would also train on hard negatives from those photos.
settings = {"phases.patches.epochs": "8", "training.precision": "float32"}
run = fw.train(patches, model="patchnet", recipe="face-or-not", out=folder / "model", overrides=settings)
accuracy = run.evaluation.accuracy
print(f"patches: {accuracy.value:.1%} right, between {accuracy.low:.1%} and {accuracy.high:.1%} (n={accuracy.n})")

# Without photos of yours: ten groups of other people, and a table of their face boxes.
rows = []
for index in range(10 if len(own) < 2 else 0):
    pixels, faces = scene(seed=1, index=index, width=240, height=180, faces=3)
    photos.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(photos / f"{index}.png")
    rows += [f"{index}.png,{'train' if index < 5 else 'test'},{x},{y},{w},{h}\n" for x, y, w, h in faces]
table = folder / "boxes.csv"
table.write_text("file,split,x,y,w,h\n" + "".join(rows))

# Scan every position and scale of each photo; overlapping detections become one box. The threshold is chosen on the
# first five photos and measured on the others.
scanned = fw.scan(run.folder, [photos], boxes=table if rows else None, draw=folder / "found")
print(f"threshold {scanned.threshold:.2f} ({scanned.threshold_from})")
for photo in scanned.photos:
    print(f"{photo.path}: {'cannot be read' if photo.found is None else f'{len(photo.found)} found'}")
if rows:
    test = scanned.detection["test"]
    right = "no box" if test.precision is None else f"{test.precision.value:.0%} of the boxes"
    print(f"test photos: {test.recall.value:.0%} of {test.faces} faces found, {right} right")
print("the photos with boxes, detections amber and true boxes blue:", folder / "found")
