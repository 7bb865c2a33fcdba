"""Scan: train a network on small patches, face or not, and find the faces of whole photos with it.

    python examples/05_scan.py                       # drawn groups of people
    python examples/05_scan.py patches/ group.jpg    # your own: face/ and nonface/ in a folder, and a photo

On the command line:

    facewright train patches/ --model patchnet --recipe face-or-not
    facewright scan RUN group.jpg --draw found/
"""

import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

import facewright as fw
from facewright.data.synthetic import scene
from facewright.metrics.detection import iou

# Patches, unless you bring some: from drawn groups, the faces (a little more than the box) and random places beside them.
folder, draws = Path("runs", f"scan-{time.strftime('%Y%m%d-%H%M%S')}"), np.random.default_rng(0)
for index in range(40 if len(sys.argv) < 2 else 0):
    pixels, faces = scene(seed=0, index=index, width=200, height=150, faces=3)
    sides = 24 * 5 ** draws.random(12)
    places = np.column_stack([draws.random((12, 2)) * ([200, 150] - sides[:, None]), sides, sides])
    wanted = {"face": faces, "nonface": places[iou(places, faces).max(axis=1) < 0.2]}
    for name, boxes in wanted.items():
        (folder / "patches" / name).mkdir(parents=True, exist_ok=True)
        for number, (x, y, w, h) in enumerate(boxes):
            patch = Image.fromarray(pixels).crop((x, y, x + w, y + h)).resize((64, 64))
            patch.save(folder / "patches" / name / f"{index}-{number}.png")

# The recipe is made for this job. The threshold between the two is chosen on the validation part.
patches = sys.argv[1] if len(sys.argv) > 1 else folder / "patches"
settings = {"phases.patches.epochs": "8", "training.precision": "float32"}
run = fw.train(patches, model="patchnet", recipe="face-or-not", out=folder / "model", overrides=settings)
accuracy = run.evaluation.accuracy
print(f"patches: {accuracy.value:.1%} right, between {accuracy.low:.1%} and {accuracy.high:.1%} (n={accuracy.n})")

# A photo to scan, of other people, unless you bring one.
photo = Path(sys.argv[2]) if len(sys.argv) > 2 else folder / "group.png"
if len(sys.argv) < 3:
    Image.fromarray(scene(seed=1, index=3, width=320, height=240, faces=4)[0]).save(photo)

# Every place and size of the photo; overlapping hits become one box.
found = fw.scan(run.folder, [photo], draw=folder / "drawn")
for face in found.photos[0].found.to_list():
    print(
        f"a face at x {face['x']:.0f}, y {face['y']:.0f}, {face['w']:.0f} wide, {face['h']:.0f} high: {face['score']:.3f}"
    )
print("the photo with its boxes:", found.drawn[0])
