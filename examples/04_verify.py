"""Verify: do two pictures show the same person, where neither was in the training data?

    python examples/04_verify.py             # drawn faces
    python examples/04_verify.py photos/     # your own: a folder for each person, sixteen people or more

On the command line:

    facewright train known/ --model plain_cnn --size 48
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

# Three groups of people, for nobody may be in two: half to learn from, a quarter to choose a threshold on, and new ones.
data = sys.argv[1] if len(sys.argv) > 1 else "synthetic:faces?identities=32&images=10&size=48"
people, folder = fw.open_dataset(data), Path("runs", f"verify-{time.strftime('%Y%m%d-%H%M%S')}")
files = {"known": [], "others": [], "new": []}
for record in people.records:
    group = ("known", "known", "others", "new")[record.label % 4]
    path = folder / group / people.classes[record.label] / f"{len(files[group])}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(people.source.read(record, None)).save(path)
    files[group].append(path)

# A list of pairs is a table: two pictures, and whether they show one person.
for group in ("others", "new"):
    pairs = [(a, b, int(a.parent == b.parent)) for a, b in itertools.combinations(files[group], 2)]
    rows = [f"{a.relative_to(folder / group)},{b.relative_to(folder / group)},{same}" for a, b, same in pairs]
    (folder / f"{group}.csv").write_text("\n".join(["a,b,same", *rows]) + "\n")

# Learn to tell the first group apart. What the last but one layer says of a face then serves for other people too.
settings = {"input.size": "48", "training.epochs": "8", "training.precision": "float32", "shares.test": "0.1"}
run = fw.train(folder / "known", model="plain_cnn", out=folder / "model", overrides=settings, report=False)

# The threshold is chosen on the second group, so that one pair of strangers in twenty is accepted, and kept in the model.
chosen = fw.calibrate(run.folder, folder / "others.csv", folder / "others", far=0.05).decision.threshold
print(f"threshold {chosen.value:.3f}, chosen on {chosen.data}")

# What it does is measured on the third group. Numbers from the second would be too good: the threshold was made for it.
measured = fw.pairs(run.folder, folder / "new.csv", folder / "new", out=folder / "report")
at = measured.at_decision
print(f"new people: {at.far.value:.1%} of strangers accepted, {at.frr.value:.1%} of same-person pairs refused")
print(
    f"at the threshold where both are equal: {measured.result.eer:.1%}; area under the curve {measured.result.auc:.3f}"
)

# Two pictures of one new person, then two of different ones.
first, second = files["new"][:2]
stranger = next(path for path in files["new"] if path.parent != first.parent)
for a, b in ((first, second), (first, stranger)):
    answer = fw.verify(run.folder, a, b)
    print(f"{a} and {b}: score {answer.score:.3f}, {'the same person' if answer.same else 'two people'}")
print("curves and the worst pairs:", folder / "report" / "report.html")
