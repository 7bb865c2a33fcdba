"""Results in a notebook: train, evaluate, tables, verify, and scikit-learn's interface

    python examples/results.py

On the command line:

    facewright train photos/ --model plain_cnn --size 32 --epochs 6
    facewright evaluate RUN photos/
    facewright verify RUN a.jpg b.jpg
"""

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

import facewright as fw

# Synthetic faces of six people, 20 images each: the first image of each.
people = fw.open_dataset("synthetic:faces?identities=6&images=20&size=32&seed=3")
images = np.stack([people.source.read(record, None) for record in people.records])
labels = np.array([people.classes[record.label] for record in people.records])
Image.fromarray(np.hstack(images[::20])).resize((384, 64))

# Train. The test part is read once, at the end; nothing is printed unless you ask for it with `on_event=print`.
folder = Path(tempfile.mkdtemp()) / "run"
settings = {"input.size": "32", "training.epochs": "6", "training.precision": "float32"}
settings |= {"head.kind": "linear", "head.embedding": "32"}
run = fw.train(people, model="plain_cnn", overrides=settings, out=folder, report=False)
dict(run.facts.counts)

# A row an epoch, as a pandas table.
history = pd.DataFrame(run.history).set_index("epoch")
history[["images_seen", "learning_rate", "train_loss", "validation_loss", "validation_accuracy"]].round(3)

# A result shows itself: every rate with its 95 % confidence interval and count.
run.evaluation

# The same as a table, a row a class.
frame = run.evaluation.to_frame()
frame[["name", "recall.value", "recall.low", "recall.high", "recall.n", "f1"]].round(2)

# Evaluate on other data. It says which of their images the model was made with.
more = fw.evaluate(run.folder, "synthetic:faces?identities=6&images=4&size=32&seed=3")
rate = more.accuracy
print(f"{rate.value:.0%} ({rate.low:.0%} to {rate.high:.0%}, n={rate.n})")
print(*more.notes, sep="\n")

# Verify: the embedding of the same network on people that it never saw. One half of them chooses the threshold, at a
# false-accept rate of 10 %; the other half measures it.
others = fw.open_dataset("synthetic:faces?identities=12&images=6&size=32&seed=4")
faces = [others.source.read(record, None) for record in others.records]
persons = [record.label for record in others.records]
numbers = {half: [i for i, person in enumerate(persons) if person % 2 == half] for half in (0, 1)}
pairs = {half: list(itertools.combinations(found, 2)) for half, found in numbers.items()}
same = {half: [persons[a] == persons[b] for a, b in chosen] for half, chosen in pairs.items()}
verifier = fw.FaceVerifier(run.folder, far=0.1).fit([(faces[a], faces[b]) for a, b in pairs[0]], same[0])
verifier.threshold_

# What it does on the other half.
accepted = verifier.predict([(faces[a], faces[b]) for a, b in pairs[1]])
pd.crosstab(pd.Series(same[1], name="same person"), pd.Series(accepted, name="accepted"))

# Behind scikit-learn's interface: `fit` keeps its own validation and test parts; `score` is on images held out here.
held_out = np.arange(len(images)) % 4 == 0
classifier = fw.FaceClassifier("plain_cnn", overrides={**settings, "training.epochs": "4"})
classifier.fit(images[~held_out], labels[~held_out])
print(f"accuracy {classifier.score(images[held_out], labels[held_out]):.0%} of {held_out.sum()} images")
pd.DataFrame(classifier.predict_proba(images[held_out][::6]), columns=classifier.classes_).round(2)
