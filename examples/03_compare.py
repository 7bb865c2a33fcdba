"""Compare architectures: the same split for all, and tests of which differences are significant.

    python examples/03_compare.py            # synthetic faces
    python examples/03_compare.py photos/    # your own: a folder for each person

On the command line:

    facewright compare photos/ --models plain_cnn,pointwise_facenet,patchnet --size 48 --epochs 5
"""

import sys

import facewright as fw

own = sys.argv[1:]

# Three small networks, so that it is quick. `facewright models` lists the others.
data = own[0] if own else "synthetic:faces?identities=6&images=30&size=48"
models = ["plain_cnn", "pointwise_facenet", "patchnet"]
settings = {"input.size": "48", "training.epochs": "5", "training.precision": "float32"}
compared = fw.train_all(data, models, overrides=settings)

# Accuracy, size, and the time for one image.
for entry in compared.comparison.entries:
    rate = entry.test.accuracy
    facts = f"{entry.parameters:>9,} parameters, {entry.latency.median_ms:.1f} ms an image"
    print(f"{entry.name:>18}: {rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%}, n={rate.n}), {facts}")

# Each pair on the same test images: with a large p-value the difference may be chance.
for pair in compared.comparison.pairs:
    verdict = "may be chance" if pair.within_noise else "more than chance"
    print(f"{pair.a} against {pair.b}: {100 * pair.accuracy_difference:+.1f} points, p = {pair.p_value:.2g}, {verdict}")

# The advice in words. The page with curves and confusion matrices is beside the runs.
print(*compared.comparison.advice, sep="\n")
print("page:", compared.runs[0].folder.parent / "report.html")
