"""The tables of a recipe: what each key is, its range and its default. `recipe.py` puts them together."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from facewright.errors import FacewrightError
from facewright.metrics.binary import asked_far


class Part(BaseModel):
    """A table of a recipe: unknown keys are errors, values are fixed."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)


class Input(Part):
    """What the network sees; becomes the InputSpec that travels with the weights."""

    size: int = Field(112, ge=32, le=1024)  # side in pixels
    resize: Literal["stretch", "cover", "pad"] = "cover"
    normalise: Literal["dataset", "unit", "imagenet", "weights"] = "dataset"
    """Mean and deviation: of the training part; none ([0, 1]); ImageNet's; those the public weights were trained with
    (of the training part where a run starts from fresh weights)."""
    stem: Literal["auto", "coarse", "imagenet", "medium", "small"] = "auto"


class Shares(Part):
    """Parts of the data, where it does not come split; the rest is for training."""

    validation: float = Field(0.1, gt=0, lt=1)
    test: float = Field(0.2, gt=0, lt=1)

    @model_validator(mode="after")
    def _leave_some(self) -> Shares:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation and test together take {self.validation + self.test:g} of 1; nothing is left")
        return self


class Optimizer(Part):
    """The update rule."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    decay_all: bool = False  # also norms and biases, as a plain call of the optimizer does
    momentum: float = Field(0.9, ge=0, lt=1)  # sgd only (Nesterov)
    beta2: float = Field(0.999, gt=0, lt=1)  # adam and adamw


class Schedule(Part):
    """The learning rate over the run, as a factor of `optimizer.learning_rate`."""

    name: Literal["constant", "cosine", "one-cycle", "step", "plateau"] = "cosine"
    warmup: float = Field(0.0, ge=0, lt=1)  # share of all steps, linear from near zero; one-cycle: its rise
    floor: float = Field(0.0, ge=0, le=1)  # where cosine and one-cycle end; below which plateau does not go
    every: int = Field(10, ge=1)  # step: epochs between drops
    factor: float = Field(0.1, gt=0, lt=1)  # step, plateau: multiply by this
    patience: int = Field(5, ge=0)  # plateau: epochs without a better validation loss


class Head(Part):
    """What stands on the body's features; `native` leaves the architecture's own classifier."""

    kind: Literal["native", "linear", "sigmoid", "two-layer", "hidden-256", "cosine"] = "native"
    embedding: int = Field(0, ge=0, le=65536)  # width of a linear map and norm before it; 0: the features themselves
    dropout: float = Field(0.0, ge=0, lt=1)
    scale: float = Field(0.0, ge=0, le=1000)  # cosine: what cosines are multiplied by
    subcentres: int = Field(1, ge=1, le=64)  # cosine: centres a class
    l2: float = Field(0.0, ge=0)  # weight decay of the head alone, in place of optimizer.weight_decay where above 0

    @model_validator(mode="after")
    def _native_has_no_options(self) -> Head:
        if self.kind == "native" and (self.embedding or self.dropout or self.scale or self.subcentres != 1):
            raise ValueError(
                "the native head has no options; choose head.kind = linear, two-layer, hidden-256 or cosine"
            )
        return self


class Objective(Part):
    """What training minimises. The margin losses want `head.kind = "cosine"`."""

    kind: Literal[
        "cross-entropy",
        "focal",
        "centre",
        "a-softmax",
        "cosface",
        "arcface",
        "contrastive",
        "pairwise",
        "triplet",
    ] = "cross-entropy"
    margin: Annotated[float, Field(ge=0)] | Literal["paper"] = "paper"  # a-softmax: a whole number; arcface: radians
    mining: Literal["all", "semi-hard", "batch-hard"] = "batch-hard"  # triplet
    weight: float = Field(0.003, ge=0)  # centre: of the centre loss beside cross-entropy
    centre_rate: float = Field(0.5, gt=0, le=1)  # centre: how fast centres follow
    gamma: float = Field(2.0, ge=0)  # focal
    blend_start: float = Field(1000.0, ge=0)  # a-softmax: the share of plain softmax falls from this,
    blend_fall: float = Field(0.12, ge=0)  # the faster the greater this is,
    blend_least: float = Field(5.0, ge=0)  # down to this
    class_weights: Literal["none", "inverse"] = "none"  # inverse: rare classes count as much as frequent ones in all


class Sampling(Part):
    """Which pictures make an epoch and a batch."""

    plan: Literal["shuffle", "over", "under", "repeat", "identities", "pairs", "triplets"] = "shuffle"
    """Each once; every class brought to the size of the largest, or of the smallest; the smallest class `times` times,
    augmented each time anew; batches of `people` x `images`; of pairs, half of them of one person; of triplets."""
    times: int = Field(1, ge=1)  # repeat
    people: int = Field(8, ge=2)  # identities
    images: int = Field(4, ge=2)  # identities


class Phase(Part):
    """A stretch of training with its own rate and its own part of the network."""

    epochs: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    train: str = "all"
    """`all`, `head`, `last-stage`, `from NAME` (a stage or part as `facewright models` prints it), or `all but first N`
    (layers with weights)."""
    draws: int = Field(0, ge=0)
    """With `train = "head"`: augmentation draws whose features are computed once, before the head trains on them in
    turn; 0: the frozen body runs at every step."""
    layer_decay: float = Field(1.0, gt=0, le=1)  # each block's rate over that of the block behind it
    frozen_norms: bool = False  # batch norms keep the statistics they came with
    hard_negatives: int = Field(0, ge=0)
    """Face or not: so many false alarms of the network in photos (see `mining`) join the training part first; a phase
    that wants some is left out where `mining.photos` names no folder."""

    @model_validator(mode="after")
    def _only_a_frozen_body_is_cached(self) -> Phase:
        if self.draws and self.train != "head":
            raise ValueError('draws above 0 want train = "head": features of a body that learns do not stay true')
        return self


class Mining(Part):
    """Face or not: where the false alarms of `hard_negatives` come from."""

    photos: str = ""  # a folder of photos without faces, or with faces that `boxes` knows
    boxes: str = ""  # a table of true boxes, `file[,split],x,y,w,h`
    part: Literal["", "train", "validation", "test"] = ""  # only photos of this split of the table
    threshold: float = Field(0.3, gt=0, lt=1)  # probability from which on a patch is a false alarm
    face: str = "face"  # the class of the faces


class Probe(Part):
    """No training by gradients: logistic regression on what the frozen body makes of the pictures as they are."""

    strengths: tuple[float, ...] = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
    """Inverse penalties to choose among by cross-validation inside the training part; of standardised features."""
    folds: int = Field(5, ge=2, le=20)

    @model_validator(mode="after")
    def _positive(self) -> Probe:
        if not self.strengths or min(self.strengths) <= 0:
            raise ValueError(f"strengths must be numbers above 0, got {list(self.strengths)}")
        return self


class Stage(Part):
    """Progressive image size: until this share of the epochs, train at this share of `input.size`."""

    until: float = Field(gt=0, le=1)
    scale: float = Field(gt=0, le=1)


class Training(Part):
    """The loop."""

    epochs: int = Field(20, ge=1)  # of a recipe without phases
    batch: int = Field(32, ge=2)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    mixup: float = Field(0.0, ge=0)  # alpha of the Beta distribution; 0: none
    cutmix: float = Field(0.0, ge=0)
    clip: float = Field(0.0, ge=0)  # largest norm of the gradient; 0: no clipping
    adaptive_clip: float = Field(0.0, ge=0)  # largest gradient of a unit over its weights' norm (NFNet); 0: none
    ema: float = Field(0.0, ge=0, lt=1)  # decay of the averaged weights a step; 0: none
    stages: tuple[Stage, ...] = ()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_seconds: float = Field(60.0, gt=0)  # how much work a kill may cost; no effect on the result
    checkpoint_steps: int = Field(0, ge=0)  # also after every so many steps; 0: by time alone

    @model_validator(mode="after")
    def _stages_rise(self) -> Training:
        ends = [stage.until for stage in self.stages]
        if ends and (ends != sorted(set(ends)) or ends[-1] != 1.0):
            raise ValueError(f"stages must rise and end at until = 1.0, not {ends}")
        if self.mixup and self.cutmix:
            raise ValueError("choose mixup or cutmix, not both")
        return self


class Threshold(Part):
    """Of data with two classes: how the threshold is chosen on the validation part, which is then scored on test."""

    rule: str = "min-hter"
    """Of the probability of the second class: the least half total error rate (`min-hter`), where false accepts and
    false rejects are equally frequent (`eer`), or at most this share of the first class accepted (`far=0.01`)."""

    @model_validator(mode="after")
    def _known(self) -> Threshold:
        if self.rule not in ("min-hter", "eer"):
            try:
                asked_far(self.rule)
            except FacewrightError as error:
                raise ValueError(str(error)) from None
        return self


class Selection(Part):
    """Which epoch's weights are kept, and when to give up waiting for better ones."""

    metric: Literal["accuracy", "loss", "hter"] = (
        "loss"  # on the validation part; hter: two classes, its best threshold
    )
    patience: int = Field(0, ge=0)  # epochs without improvement before a phase ends; 0: never stop early
