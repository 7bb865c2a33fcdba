"""Verify: do two images show the same person, where neither was in the training data?

    python examples/04_verify.py             # drawn faces
    python examples/04_verify.py photos/     # your own: a folder for each person, sixteen people or more

On the command line:

    facewright train known/ --model plain_cnn --size 48 --set head.kind=linear --set head.embedding=64
    facewright calibrate RUN --pairs others.csv --images others/ --far 0.05
    facewright pairs RUN new.csv --images new/
    facewright verify RUN new/ann/1.png new/bob/1.png
"""

import itertools
import sys
import time
from pathlib import Path

from PIL import Image

import facewright as fw

own = sys.argv[1:]

# Three groups, and nobody is in two: half of the people to learn from, a quarter to choose a threshold on, new ones.
data = own[0] if own else "synthetic:faces?identities=40&images=12&size=48"
people, folder = fw.open_dataset(data), Path("runs", f"verify-{time.strftime('%Y%m%d-%H%M%S')}")
files = {"known": [], "others": [], "new": []}
for record in people.records:
    group = ("known", "known", "others", "new")[record.label % 4]
    path = folder / group / people.classes[record.label] / f"{len(files[group])}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(people.source.read(record, None)).save(path)
    files[group].append(path)

# A list of pairs is a table: two images, and whether they show one person.
for group in ("others", "new"):
    pairs = [(a, b, int(a.parent == b.parent)) for a, b in itertools.combinations(files[group], 2)]
    rows = [f"{a.relative_to(folder / group)},{b.relative_to(folder / group)},{same}" for a, b, same in pairs]
    (folder / f"{group}.csv").write_text("\n".join(["a,b,same", *rows]) + "\n")

# Learn to tell the first group apart. The 64 numbers before the last layer then describe the faces of others too; not
# well after so little training: with public weights, mobilefacenet@FILE in place of the run, far fewer are mistaken.
settings = {"input.size": "48", "training.epochs": "8", "training.precision": "float32"}
settings |= {"head.kind": "linear", "head.embedding": "64"}
run = fw.train(folder / "known", model="plain_cnn", out=folder / "model", overrides=settings, report=False)

# The threshold is chosen on the second group, such that one pair of strangers in twenty passes; the model keeps it.
chosen = fw.calibrate(run.folder, folder / "others.csv", folder / "others", far=0.05).threshold
print(f"threshold {chosen.value:.3f}, chosen on {chosen.data}")

# What it does is measured on the third group. Numbers from the second would be too good: the threshold was made for it.
measured = fw.pairs(run.folder, folder / "new.csv", folder / "new", out=folder / "report")
at = measured.at_decision
print(f"new people: {at.far.value:.1%} of strangers accepted, {at.frr.value:.1%} of same-person pairs refused")
print(f"where both are equally frequent: {measured.result.eer:.1%}; area under the curve: {measured.result.auc:.3f}")

# The first image of a new person, with two more of the same and two of someone else.
first = files["new"][0]
strangers = [path for path in files["new"] if path.parent != first.parent]
for other in (*files["new"][1:3], *strangers[:2]):
    answer = fw.verify(first, other, model=run.folder)
    said = "the same person" if answer.same else "two people"
    print(f"{first.relative_to(folder)} and {other.relative_to(folder)}: {answer.score:.3f}, {said}")
print("curves and the worst pairs:", folder / "report" / "report.html")
