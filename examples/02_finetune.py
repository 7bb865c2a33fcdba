"""Fine-tune: begin with a network that has seen other people, and learn new ones from few pictures.

    python examples/02_finetune.py           # drawn faces
    python examples/02_finetune.py photos/   # your own: a folder for each person

On the command line, where FILE is the model.safetensors of any run, or public weights by name:

    facewright train photos/ --model patchnet --weights FILE --recipe finetune --size 48
"""

import sys

import facewright as fw

# The network to begin with: trained on drawn people that the pictures below do not show (another seed, other people).
others = "synthetic:faces?identities=20&images=20&size=48&seed=0"
settings = {"input.size": "48", "training.precision": "float32"}
before = fw.train(others, model="patchnet", overrides={**settings, "training.epochs": "8"}, report=False)
print(f"to begin with: {before.evaluation.accuracy.value:.0%} of 20 other people's test pictures right")

# The same few pictures twice. First by a fresh network, which must learn everything from them.
few = sys.argv[1] if len(sys.argv) > 1 else "synthetic:faces?identities=8&images=15&size=48&seed=1"
fresh = fw.train(few, model="patchnet", overrides={**settings, "training.epochs": "12"}, report=False)

# Then from the file of the other one, in two phases: a new last layer alone, then every layer at a low rate.
settings |= {"phases.head.epochs": "10", "phases.body.epochs": "5", "phases.body.learning_rate": "1e-4"}
start = f"patchnet@{before.folder / 'model.safetensors'}"
tuned = fw.train(few, model=start, recipe="finetune", overrides=settings, report=False)

# The split is the same for both, so the numbers can be compared. With so few test pictures the bounds are wide.
for name, run in (("fresh", fresh), ("fine-tuned", tuned)):
    rate = run.evaluation.accuracy
    print(f"{name:>10}: {rate.value:.1%} right, between {rate.low:.1%} and {rate.high:.1%} (n={rate.n}), {run.folder}")
