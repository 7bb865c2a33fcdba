"""The answers of a server, as OpenAPI describes them; lengths are px of an image of `width` by `height`.

Those that the package's own records describe are taken from there. What is not named here is not sent.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from facewright.inference import AttributeAnswer, ClassAnswer, NumberAnswer

RATE: dict[str, Any] = {"value": 0.01, "low": 0.005, "high": 0.0178, "n": 1100}
BOX = {"x": 61.0, "y": 58.5, "w": 120.0, "h": 120.0}
POINTS = [[157.0, 96.0], [133.0, 97.5], [84.0, 96.5], [109.0, 97.0], [121.0, 138.0]]
FACE: dict[str, Any] = {**BOX, "score": 1.07, "points": POINTS}
SIDE = {"width": 250, "height": 250, "faces": 1, "face": FACE, "message": None, "said": None, "reason": None}
MATCH = {"person": "Ann", "score": 0.97, "number": 17, "photo": "ann.jpg"}
IDENTIFIED = {**BOX, "score": 1.07, "person": "Ann", "matches": [MATCH]}


def example(**facts: Any) -> ConfigDict:
    """Return the settings of an answer with an example."""
    return ConfigDict(extra="ignore", json_schema_extra={"examples": [facts]})


class Answer(BaseModel):
    """The base of every answer: what is not named is left out."""

    model_config = ConfigDict(extra="ignore")


class Error(Answer):
    """The reason why a request was refused."""

    code: str = Field(examples=["bad_request"])
    message: str = Field(examples=["expected a file 'photo', got none"])


class ErrorAnswer(Answer):
    """The answer to every request that is refused."""

    error: Error


class Rate(Answer):
    """A share with its 95 % interval, of n."""

    value: float
    low: float
    high: float
    n: int


class Box(Answer):
    x: float
    y: float
    w: float
    h: float


class FaceBox(Box):
    """A face. `score` is the detector's; null where the whole image was taken for one."""

    score: float | None
    points: list[tuple[float, float]] = Field(description="Five points x, y")


class FaceQuality(Answer):
    """The quality of a face, in [0, 1]: its lowest component."""

    value: float
    size: float | None = Field(description="Eye distance over 35 px, at most 1; null without points")
    sharpness: float
    pose: float | None = Field(description="1 for a frontal face; null without points")
    norm: float | None = Field(None, description="Of the embedding; null where it says nothing about errors")


class Sized(Answer):
    """Width and height of the image that the boxes are of."""

    width: int
    height: int
    reduced: int = Field(default=1, description="How many times smaller this is than the image that was sent")


class Searched(Sized):
    """An image that was searched for faces."""

    searched: float | None = Field(
        default=None, description="Side of the smallest face, px, that so large an image was searched for; else null"
    )


class Faces(Searched):
    """The faces of an image, the highest score first."""

    model_config = example(width=250, height=250, faces=[FACE])

    faces: list[FaceBox]


class EmbeddedFace(FaceBox):
    vector: list[float] = Field(description="Of length 1; the dot product of two is their similarity")


class Embedded(Sized):
    """The vector of each face. Compare only vectors of one fingerprint."""

    fingerprint: str
    faces: list[EmbeddedFace]


class ClassProbability(Answer):
    name: str
    probability: float


class ThresholdDecision(Answer):
    """The decision of a model of two classes by its stored threshold."""

    name: str
    score: float
    accepted: str
    threshold: float


class Predicted(Answer):
    """The most probable classes, best first."""

    model_config = example(
        top=[{"name": "ann", "probability": 0.93}], similarity=0.93, likeness=0.93, answer=None, unknown=None
    )

    top: list[ClassProbability]
    similarity: float | None = Field(description="Cosine or probability of the nearest class: low for unknown people")
    likeness: float | None = Field(deprecated=True, description="`similarity`, as it was called in 0.1")
    answer: ThresholdDecision | None
    targets: dict[str, AttributeAnswer | NumberAnswer | ClassAnswer] | None = Field(
        default=None, description="Of a model with targets in place of classes: each by its name; `top` is then empty"
    )
    unknown: bool | None = Field(default=None, description="By the stored threshold; null where there is none")


class PredictedFace(FaceBox, Predicted):
    """A face and its most probable classes, or its targets."""

    model_config = example(**FACE, top=[{"name": "ann", "probability": 0.93}], similarity=0.93, answer=None)


class PredictedFaces(Sized):
    """The model's answer for each face, from left to right; of at most 500."""

    faces: list[PredictedFace]


class Side(Sized):
    """One of two images, and the face that was taken for the person."""

    faces: int
    face: FaceBox | None
    message: str | None = Field(description="Which of several faces was taken")
    said: str | None = Field(deprecated=True, description="`message`, as it was called in 0.1")
    reason: str | None = Field(description="Why none was taken")


class Verified(Answer):
    """Match or no match. Null where an image shows no face, or there is no threshold for this model."""

    model_config = example(
        score=0.9769,
        threshold=0.9082,
        same=True,
        verdict="match",
        far=RATE,
        far_target=0.01,
        probability=0.999,
        data="LFW View 1 (pairsDevTrain): 1,100 genuine and 1,100 impostor pairs of 2,132 people",
        a=SIDE,
        b=SIDE,
    )

    score: float | None = Field(description="Cosine, in [-1, 1]; higher is more similar")
    threshold: float | None
    same: bool | None = Field(description="score >= threshold")
    verdict: str | None = Field(description="match, no match, or not sure where the probability says otherwise")
    far: Rate | None = Field(description="False-accept rate on the pairs that the threshold was chosen on")
    far_target: float | None
    probability: float | None = Field(description="Match probability, at the calibration set's prior")
    data: str | None
    a: Side
    b: Side


class Overlay(Answer):
    """Images as data: addresses (PNG)."""

    overlay: str
    photo: str


class ExplainedPair(Answer):
    """Regions that made two faces similar: heat where covering one makes the score fall."""

    kind: Literal["pair"] = "pair"
    score: float
    drop: float = Field(description="The greatest fall; what full heat stands for")
    a: Overlay
    b: Overlay


class ExplainedClass(Overlay):
    """Regions where a class was seen."""

    model_config = ConfigDict(populate_by_name=True)

    kind: Literal["class"] = "class"
    name: str = Field(serialization_alias="class")
    probability: float
    predicted: str


class GalleryMatch(Answer):
    person: str
    score: float
    number: int
    photo: str


class IdentifiedFace(Box):
    """A face looked up. `person` is null for an unknown one, and where there is no threshold at all."""

    score: float | None
    person: str | None
    matches: list[GalleryMatch]
    quality: FaceQuality | None = None


class Identified(Searched):
    """Every face of an image, looked up in the gallery."""

    model_config = example(width=250, height=250, threshold=0.91, threshold_source="calibrated", faces=[IDENTIFIED])

    threshold: float | None
    threshold_source: Literal["request", "calibrated", "default", "model"] | None = Field(
        default=None,
        description="Origin of the threshold: the request; the gallery's calibration; a conservative default for the "
        "people enrolled now; the model's own for pairs; null where there is none",
    )
    faces: list[IdentifiedFace]


class Person(Answer):
    person: str
    entries: int
    crop: int | None = Field(description="The number of an entry whose face crop is kept")


class People(Answer):
    """Some of the people, by name. Ask again with `after` = `next` for more."""

    people: list[Person]
    next: str | None
    total: int


class GalleryEntry(Answer):
    number: int
    photo: str
    metadata: dict[str, str]
    crop: bool


class Entries(Answer):
    """The images that one person was enrolled with."""

    person: str
    entries: list[GalleryEntry]


class EnrolledPhoto(Answer):
    person: str
    photo: str
    number: int | None = Field(description="Null: this image of this person was enrolled before")
    message: str | None = Field(default=None, description="Which of several faces was taken")
    said: str | None = Field(default=None, deprecated=True, description="`message`, as it was called in 0.1")
    quality: FaceQuality | None = None


class FailedPhoto(Answer):
    photo: str
    reason: str


class Enrolled(Answer):
    enrolled: int
    already: int
    photos: list[EnrolledPhoto]
    failed: list[FailedPhoto]


class Deleted(Answer):
    """The number of deleted entries, and where bytes of them may remain that the server cannot reach."""

    deleted: int
    remains: str = Field(description="Empty for a gallery in a file")


class GalleryThreshold(Answer):
    """The score from which on a face is known, chosen on the enrolled people."""

    value: float
    fpir_target: float
    people: int
    entries: int
    few_people: bool


class Calibrated(Answer):
    threshold: GalleryThreshold
    warning: str | None


class Histograms(Answer):
    """Counts of scores in equal bins from `low` to `high`."""

    low: float
    high: float
    genuine: list[int]
    impostor: list[int]


class StoredThreshold(Answer):
    value: float
    far_target: float
    far: Rate
    tar: Rate | None
    data: str
    histograms: Histograms | None


class InputSize(Answer):
    height: int
    width: int


class ModelFacts(Answer):
    name: str
    kind: Literal["embedder", "classifier"]
    fingerprint: str
    detector: str
    runtime: Literal["pytorch", "onnx"]
    classes: list[str]
    targets: list[str] = Field(default=[], description="Attributes, numbers and others that are predicted by name")
    input: InputSize
    licence: str | None = None  # of the weights; null: not known


class Capabilities(Answer):
    predict: bool
    predict_faces: bool = Field(default=False, description="Every face of a photo: the model was trained on face crops")
    verify: bool
    faces: bool
    embed: bool
    explain: bool
    explain_class: bool
    gallery: bool
    write: bool


class GalleryFacts(Answer):
    people: int
    entries: int
    threshold: GalleryThreshold | None
    advice: list[str] = Field(default=[], description="What would make the answers better")


class LimitFacts(Answer):
    bytes: int
    pixels: int
    photos: int


class About(Answer):
    """The models and features of this server."""

    version: str
    model: ModelFacts
    can: Capabilities
    threshold: StoredThreshold | None
    gallery: GalleryFacts | None
    limits: LimitFacts


class Health(Answer):
    status: Literal["ok"] = "ok"
