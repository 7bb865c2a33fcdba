"""The tables of a recipe that training alone reads: each key, its range and its default. `recipe.py` joins them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from facewright.data import sampling
from facewright.data.sampling import identities, pair_plan, triplet_plan
from facewright.errors import FacewrightError
from facewright.specs import Spec

MOST_EPOCHS = 100_000
TRAINED = re.compile(r"all|head|last-stage|from \S.*|all but first \d{1,6}")  # what a phase may train
Plan = Callable[[int], list[NDArray[np.int64]]]
"""The batches of an epoch (rows of a store), a pure function of its number."""


class Input(Spec):
    """The input of the network; becomes the InputSpec that is stored with the weights."""

    size: int = Field(112, ge=32, le=1024)  # side in pixels
    resize: Literal["stretch", "cover", "pad"] = "cover"
    normalise: Literal["dataset", "unit", "imagenet", "weights"] = "dataset"
    """Mean and standard deviation: of the training part; none ([0, 1]); ImageNet's; those the public weights were
    trained with (of the training part where a run starts from random weights)."""
    stem: Literal["auto", "coarse", "imagenet", "medium", "small"] = "auto"
    detector: str = Field("none", min_length=1, max_length=1000)
    """Detector of the face that each image is cropped to: dlib, or an .onnx file; none: images are crops."""
    select_face: Annotated[
        Literal["centre", "largest", "error"], BeforeValidator(lambda value: "centre" if value == "center" else value)
    ] = "centre"  # of several faces; "center" is the same


class Shares(Spec):
    """Parts of the data, where it does not come split; the rest is for training."""

    validation: float = Field(0.1, gt=0, lt=1)
    test: float = Field(0.2, gt=0, lt=1)

    @model_validator(mode="after")
    def _leave_some(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation and test together take {self.validation + self.test:g} of 1; nothing is left")
        return self


class OptimizerSpec(Spec):
    """The update rule."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    """Decoupled decay, arXiv:1711.05101; arXiv:1412.6980, decay as L2; Nesterov's."""
    learning_rate: float = Field(1e-3, gt=0, le=1000)
    weight_decay: float = Field(0.0, ge=0, le=1000)
    head_weight_decay: float = Field(0.0, ge=0, le=1000)  # above 0: of the head, in place of `weight_decay`
    decay_all: bool = False  # also norms and biases, as a plain call of the optimizer does
    momentum: float = Field(0.9, ge=0, lt=1)  # sgd only (Nesterov)
    beta2: float = Field(0.999, gt=0, lt=1)  # adam and adamw


class Sampling(Spec):
    """The choice of images for an epoch and a batch."""

    plan: Literal["shuffle", "over", "under", "repeat", "generate", "identities", "pairs", "triplets"] = "shuffle"
    """Each once; every class brought to the size of the largest, or of the smallest; the smallest class `times` times,
    augmented differently; the smaller of two brought to the size of the other by images of a diffusion model (see
    `generation`); batches of `people` x `images`; of pairs, half of them of one person; of triplets."""
    times: int = Field(1, ge=1, le=10_000)  # repeat
    people: int = Field(8, ge=2, le=65_536)  # identities
    images: int = Field(4, ge=2, le=65_536)  # identities

    @property
    def unit(self) -> int:
        """The images that stay in one process."""
        return {"identities": self.images, "pairs": 2, "triplets": 3}.get(self.plan, 1)

    def batches(self, rows: NDArray[np.int64], labels: NDArray[np.int64], batch: int, seed: int) -> Plan:
        """Return the plan of an epoch's batches.

        Args:
            rows: (N,) rows of the store, of the training part.
            labels: (N,) the class of each.
            batch: images a batch, rounded down to whole pairs (an even number of them) or triplets; with `identities`
                it is people x images instead.
            seed: of the run.
        Raises:
            UsageError: the data cannot fill such batches; when the plan is called.
        """
        if self.plan == "identities":
            return lambda epoch: identities(rows, labels, self.people, self.images, seed, epoch)
        if self.plan == "pairs":
            return lambda epoch: pair_plan(rows, labels, max(2, batch // 4 * 2), seed, epoch)
        if self.plan == "triplets":
            return lambda epoch: triplet_plan(rows, labels, max(1, batch // 3), seed, epoch)
        if self.plan == "repeat":
            every = sampling.repeated(rows, labels, self.times)
            return lambda epoch: sampling.plan(every, batch, seed, epoch)
        if self.plan == "shuffle" or self.plan == "generate":  # the generated images are among the rows
            return lambda epoch: sampling.plan(rows, batch, seed, epoch)
        balance = self.plan
        return lambda epoch: sampling.balanced(rows, labels, batch, seed, epoch, balance)


class Phase(Spec):
    """A stretch of training with its own rate and its own part of the network."""

    epochs: int = Field(ge=1, le=MOST_EPOCHS)
    learning_rate: float = Field(gt=0, le=1000)
    train: str = "all"
    """`all`, `head`, `last-stage`, `from NAME` (a stage or part as `facewright models` prints it), or `all but first N`
    (layers with weights)."""
    draws: int = Field(0, ge=0, le=10_000)
    """With `train = "head"`: augmentation draws whose features are computed once, before the head trains on them in
    turn; 0: the frozen backbone runs at every step."""
    layer_decay: float = Field(1.0, gt=0, le=1)  # each block's rate over that of the block behind it
    frozen_norms: bool = False  # batch norms keep the statistics they came with
    hard_negatives: int = Field(0, ge=0, le=10_000_000)
    """Face or not: so many false alarms of the network in photos (see `mining`) join the training part first; a phase
    that wants some is left out where `mining.photos` names no folder."""

    @model_validator(mode="after")
    def _trains_something_known(self) -> Self:
        if not TRAINED.fullmatch(self.train):
            expected = "all, head, last-stage, 'from STAGE' or 'all but first N'"
            raise ValueError(f"a phase trains {expected}, not {self.train!r}")
        if self.draws and self.train != "head":
            raise ValueError('draws above 0 want train = "head": features of a backbone that learns do not stay true')
        return self


class HardNegativeMining(Spec):
    """Face or not: where the false alarms of `hard_negatives` come from."""

    photos: str = ""  # a folder of photos without faces, or with faces that `boxes` knows
    boxes: str = ""  # a table of true boxes, `file[,split],x,y,w,h`
    part: Literal["", "train", "validation", "test"] = ""  # only photos of this split of the table
    threshold: float = Field(0.3, gt=0, lt=1)  # probability from which on a patch is a false alarm
    face: str = "face"  # the class of the faces


class Generation(Spec):
    """Images of the smaller of two classes, by a diffusion model that learns from its training part: plan generate."""

    size: int = Field(64, ge=16, le=64, multiple_of=8)  # side in pixels, at most; never above `input.size`
    width: int = Field(32, ge=8, le=256, multiple_of=8)  # channels of the network's largest grid
    updates: int = Field(800, ge=1, le=1_000_000)  # steps of its training
    batch: int = Field(16, ge=1, le=1024)
    learning_rate: float = Field(2e-3, gt=0, le=1)
    sampling_steps: int = Field(20, ge=1, le=1000)  # of DDIM
    least: int = Field(32, ge=2, le=1_000_000)  # images of the class in the training part; with fewer it is refused


class Probe(Spec):
    """No training by gradients: logistic regression on the frozen backbone's features of the unaugmented images."""

    strengths: tuple[float, ...] = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
    """Inverse penalties to choose among by cross-validation inside the training part; of standardised features."""
    folds: int = Field(5, ge=2, le=20)

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if not self.strengths or min(self.strengths) <= 0:
            raise ValueError(f"strengths must be numbers above 0, got {list(self.strengths)}")
        return self


class Stage(Spec):
    """Progressive image size: until this share of the epochs, train at this share of `input.size`."""

    until: float = Field(gt=0, le=1)
    scale: float = Field(gt=0, le=1)


class Training(Spec):
    """The loop."""

    epochs: int = Field(20, ge=1, le=MOST_EPOCHS)  # of a recipe without phases
    batch: int = Field(32, ge=2, le=1_048_576)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    mixup: float = Field(0.0, ge=0, le=1000)  # alpha of the Beta distribution; 0: none
    cutmix: float = Field(0.0, ge=0, le=1000)
    clip: float = Field(0.0, ge=0, le=1e12)  # largest norm of the gradient; 0: no clipping
    adaptive_clip: float = Field(0.0, ge=0, le=1e12)  # largest gradient of a unit over its weights' norm; 0: none
    ema: float = Field(0.0, ge=0, lt=1)  # decay of the averaged weights a step; 0: none
    stages: tuple[Stage, ...] = ()
    shard_classes: bool = False  # cosface, arcface, adaface: each process keeps its share of the class directions
    negatives: float = Field(1.0, gt=0, le=1)
    """With `shard_classes`: the share of a process's classes that a step takes; those of its images are always in."""
    accumulate: int = Field(1, ge=1, le=1024)  # parts a batch is cut into, to save memory; the gradient is the same
    precision: Literal["auto", "float32", "tf32", "bfloat16", "float16"] = "auto"
    compile: bool = False  # by torch.compile, before the first step
    deterministic: bool | Literal["auto"] = "auto"
    """Kernels of a device that give the same bits each time; auto: where a step takes less than 10 % longer. A CPU's
    always do."""
    sync_batch_norm: bool = False  # of several GPUs: over the whole batch instead of each one's share
    store: Literal["auto", "raw", "encoded"] = "auto"  # form of the stored images; no effect on the result
    checkpoint_seconds: float = Field(60.0, gt=0, le=1e9)  # how much work a kill may cost; no effect on the result
    checkpoint_steps: int = Field(0, ge=0, le=10**9)  # also after every so many steps; 0: by time alone

    @model_validator(mode="after")
    def _stages_rise(self) -> Self:
        ends = [stage.until for stage in self.stages]
        if ends and (ends != sorted(set(ends)) or ends[-1] != 1.0):
            raise ValueError(f"stages must rise and end at until = 1.0, not {ends}")
        if self.mixup and self.cutmix:
            raise ValueError("choose mixup or cutmix, not both")
        if self.accumulate > self.batch // 2:
            raise ValueError(f"a batch of {self.batch} has no {self.accumulate} parts of two images or more")
        return self


class Threshold(Spec):
    """Of data with two classes: how the threshold is chosen on the validation part, which is then scored on test."""

    rule: str = "min-hter"
    """Of the probability of the second class: the least half total error rate (`min-hter`), where false accepts and
    false rejects are equally frequent (`eer`), or at most this share of the first class accepted (`far=0.01`)."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.rule not in ("min-hter", "eer"):
            from facewright.metrics.binary import asked_far  # imports scipy

            try:
                asked_far(self.rule)
            except FacewrightError as error:
                raise ValueError(str(error)) from None
        return self


class Selection(Spec):
    """The choice of the epoch whose weights are kept, and early stopping."""

    metric: Literal["accuracy", "loss", "hter", "verification"] = "loss"
    """On the validation part: accuracy; loss; hter of two classes at its best threshold. Or verification: the mean
    accuracy over `sets`, the loss where none is named."""
    sets: tuple[str, ...] = Field((), max_length=64)
    """Verification sets that are measured after each epoch: a `.bin`, or `LIST:FOLDER`, a list of pairs and the folder
    of its images."""
    patience: int = Field(0, ge=0, le=MOST_EPOCHS)  # epochs without improvement before a phase ends; 0: never


class Schedule(Spec):
    """The learning rate over a phase, as a factor of its base learning rate.

    constant   1
    cosine     half a cosine from 1 to `floor`                     (Loshchilov and Hutter, arXiv:1608.03983, eq. 5)
    one-cycle  up from 1/25 along half a cosine, then down         (Smith and Topin, arXiv:1708.07120)
    poly       (1 - share of the steps) ** `power`, down to `floor`
    step       times `factor` after every `every` epochs
    plateau    times `factor` whenever `Plateau` says so
    """

    name: Literal["constant", "cosine", "one-cycle", "poly", "step", "plateau"] = "cosine"
    warmup: float = Field(0.0, ge=0, lt=1)  # share of all steps, linear from near zero; one-cycle: its rise
    floor: float = Field(0.0, ge=0, le=1)  # where cosine, one-cycle and poly end; below which plateau does not go
    power: float = Field(2.0, gt=0, le=10)  # poly
    least_rate: float = Field(0.0, ge=0, le=1000)  # plateau: the learning rate below which it does not go
    every: int = Field(10, ge=1, le=100_000)  # step: epochs between drops
    factor: float = Field(0.1, gt=0, lt=1)  # step, plateau: multiply by this
    patience: int = Field(5, ge=0, le=100_000)  # plateau: epochs without a better validation loss

    def at(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """Return the factor for a step counted from 0, of so many in the phase.

        >>> schedule = Schedule(name="cosine", warmup=0.2)
        >>> [round(schedule.at(step, steps=10, steps_per_epoch=5), 3) for step in (0, 1, 2, 6, 9)]
        [0.5, 1.0, 1.0, 0.5, 0.038]
        """
        rise = self.warmup * steps
        gone = min(1.0, (step - rise) / max(1.0, steps - rise))
        if self.name == "one-cycle":
            return 0.04 + 0.96 * _ease(step / rise) if step < rise else max(self.floor, 1 - _ease(gone))
        if step < rise:
            return min(1.0, (step + 1) / rise)
        if self.name == "cosine":
            return self.floor + (1 - self.floor) * (1 - _ease(gone))
        if self.name == "poly":
            return float(self.floor + (1 - self.floor) * (1 - gone) ** self.power)
        if self.name == "step":
            return float(self.factor ** (step // (steps_per_epoch * self.every)))
        return 1.0

    def floor_at(self, rate: float) -> float:
        """Return the lowest factor of a plateau, of a phase with this learning rate.

        >>> Schedule(name="plateau", floor=0.01, least_rate=1e-6).floor_at(4e-6)
        0.25
        """
        return min(1.0, max(self.floor, self.least_rate / rate))


@dataclass
class Plateau:
    """Multiplies the learning rate by the schedule's factor after `patience` epochs in which the cost did not fall."""

    scale: float = 1.0
    best: float = math.inf
    waited: int = 0

    def update(self, cost: float, schedule: Schedule, rate: float = math.inf) -> bool:
        """Take an epoch's cost on the validation part (the chosen metric, turned so that less is better).

        Args:
            rate: the learning rate of the phase, for `least_rate`.

        Returns:
            Whether the rate was lowered.
        """
        if cost < self.best - 1e-4:
            self.best, self.waited = cost, 0
            return False
        self.waited += 1
        if self.waited <= schedule.patience:
            return False
        self.waited = 0
        lowered = max(schedule.floor_at(rate), self.scale * schedule.factor)
        changed = lowered < self.scale
        self.scale = lowered
        return changed


def _ease(share: float) -> float:
    """Rise from 0 to 1 along half a cosine."""
    return (1 - math.cos(math.pi * share)) / 2
