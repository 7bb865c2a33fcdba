"""Fine-tune: start from a network trained on other people, and learn new ones from few images.

    python examples/02_finetune.py           # synthetic faces
    python examples/02_finetune.py photos/   # your own: a folder for each person

On the command line, where FILE is the model.safetensors of any run, or public weights by name:

    facewright train photos/ --model plain_cnn --weights FILE --recipe finetune --size 48
"""

import sys

import facewright as fw

own = sys.argv[1:]

# The network to start from: trained to classify other synthetic people (another seed gives other people).
others = "synthetic:faces?identities=24&images=20&size=48&seed=0"
settings = {"input.size": "48", "training.precision": "float32"}
before = fw.train(others, model="plain_cnn", overrides={**settings, "training.epochs": "8"}, report=False)
print(f"before fine-tuning: {before.evaluation.accuracy.value:.1%} of the others' test images right")

# Few images of new people; half of them are the test part. First, train from random initialization on the other half.
few = own[0] if own else "synthetic:faces?identities=8&images=16&size=48&seed=1"
settings["shares.test"] = "0.5"
scratch = fw.train(few, model="plain_cnn", overrides={**settings, "training.epochs": "15"}, report=False)

# Then fine-tune the network from above in two phases: first a new head alone, then all layers at a low learning rate.
start = f"plain_cnn@{before.folder / 'model.safetensors'}"
settings |= {"training.batch": "8", "phases.backbone.epochs": "5", "phases.backbone.learning_rate": "1e-4"}
tuned = fw.train(few, model=start, recipe="finetune", overrides=settings, report=False)

# Both were trained and tested on the same images.
for name, run in (("from scratch", scratch), ("fine-tuned", tuned)):
    rate = run.evaluation.accuracy
    print(f"{name}: {rate.value:.1%} right, between {rate.low:.1%} and {rate.high:.1%} (n={rate.n}), {run.folder}")
pair = fw.compare([scratch, tuned]).comparison.pairs[0]
print(f"the difference is {'within chance' if pair.within_noise else 'more than chance'} (p = {pair.p_value:.2g})")
