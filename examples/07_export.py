"""Export: a trained model as one ONNX file, checked against PyTorch, then run without this package.

    python examples/07_export.py                     # synthetic faces
    python examples/07_export.py photos/             # your own: a folder with a folder per class

On the command line:

    facewright export RUN --to onnx
    facewright predict RUN/model.onnx someone.jpg
"""

import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

import facewright as fw

own = sys.argv[1:]

# A small network, so that this takes seconds; any other works the same way.
data = own[0] if own else "synthetic:faces?identities=6&images=30&size=48"
settings = {"input.size": "48", "training.epochs": "5", "training.precision": "float32"}
folder = Path("runs", f"export-{time.strftime('%Y%m%d-%H%M%S')}")
run = fw.train(data, model="plain_cnn", out=folder, overrides=settings, report=False)

# The file is written only if ONNX Runtime gives the same answers as PyTorch, on a thousand synthetic faces.
made = fw.export(run.folder)
found = made.agreement
print(f"on {made.data}, probabilities differ by {found.probabilities:.0e} at most, vectors by {found.vectors:.0e}")
print(f"{found.changed} of {found.decisions:,} decisions changed")

# The file can be used in place of the run wherever a model is expected.
photo = folder / "someone.png"
people = fw.open_dataset(data)
Image.fromarray(people.source.read(people.records[0], None)).save(photo)
answer = fw.predict(Path(made.path), [photo])[0]
print(f"with facewright: {answer.names[0]}, {answer.probabilities[0]:.1%}")

# It also runs with ONNX Runtime alone: the preprocessing is inside.
session = onnxruntime.InferenceSession(made.path)
size = session.get_inputs()[0].shape[1]
pixels = np.asarray(Image.open(photo).convert("RGB").resize((size, size)))[None]  # (1, H, W, 3) bytes
logits, embedding = session.run(["logits", "embedding"], {"pixels": pixels})
chances = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
print(f"without facewright: class {chances.argmax()}, {chances.max():.1%}; {embedding.shape[1]}-d embedding")
print("the file:", made.path)
