"""Train a classifier and measure it on images that it never saw.

    python examples/01_train.py              # synthetic faces: nothing to download, a few seconds
    python examples/01_train.py photos/      # your own: a folder for each person

On the command line:

    facewright train photos/ --model plain_cnn --size 48 --epochs 8
    facewright predict RUN someone.jpg
"""

import sys

import facewright as fw

own = sys.argv[1:]

# Six synthetic people, thirty images of each. They are split into three parts: one to train on, one to choose the
# best epoch, and a test part, which is used once, at the end.
data = own[0] if own else "synthetic:faces?identities=6&images=30&size=48"
settings = {"input.size": "48", "training.epochs": "8", "training.precision": "float32"}
run = fw.train(data, model="plain_cnn", overrides=settings)
print("images in each part:", dict(run.facts.counts))

# The course of training. If the training accuracy rises but the validation accuracy does not, the model overfits.
for row in run.history:
    print(f"epoch {row.epoch}: right in training {row.train_accuracy:.0%}, in validation {row.validation_accuracy:.0%}")

# The test accuracy with its 95 % confidence interval.
accuracy = run.evaluation.accuracy
print(f"test accuracy {accuracy.value:.1%}, between {accuracy.low:.1%} and {accuracy.high:.1%} (n={accuracy.n})")
for person in run.evaluation.per_class:
    print(f"  {person.name}: {person.recall.value:.0%} of {person.n} images right")
print("the run, with the model and the page report.html:", run.folder)
