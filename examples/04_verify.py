"""Verify: decide whether two images show the same person, for people outside the training data.

    python examples/04_verify.py             # synthetic faces
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

# Three disjoint groups of people: half to train on, a quarter to choose a threshold on, a quarter to measure on.
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

# Train a classifier of the first group. Its 64-dimensional embeddings describe other faces too, but not well after so
# little training: public weights (mobilefacenet@FILE in place of the run) make far fewer errors.
settings = {"input.size": "48", "training.epochs": "8", "training.precision": "float32"}
settings |= {"head.kind": "linear", "head.embedding": "64"}
run = fw.train(folder / "known", model="plain_cnn", out=folder / "model", overrides=settings, report=False)

# The threshold is chosen on the second group, at a false-accept rate of 5 %; the model stores it.
chosen = fw.calibrate(run.folder, folder / "others.csv", folder / "others", far=0.05).threshold
print(f"threshold {chosen.value:.3f}, chosen on {chosen.data}")

# It is measured on the third group. Numbers from the second would be too good: the threshold was chosen on it.
measured = fw.pairs(run.folder, folder / "new.csv", folder / "new", out=folder / "report")
at = measured.at_threshold
print(f"new people: {at.far.value:.1%} of impostor pairs accepted, {at.frr.value:.1%} of genuine pairs rejected")
print(f"equal error rate: {measured.result.eer:.1%}; area under the curve: {measured.result.auc:.3f}")

# The first image of a new person, with two more of the same and two of someone else.
first = files["new"][0]
impostors = [path for path in files["new"] if path.parent != first.parent]
for other in (*files["new"][1:3], *impostors[:2]):
    answer = fw.verify(first, other, model=run.folder)
    verdict = "match" if answer.same else "no match"
    print(f"{first.relative_to(folder)} and {other.relative_to(folder)}: {answer.score:.3f}, {verdict}")
print("curves and the worst pairs:", folder / "report" / "report.html")
