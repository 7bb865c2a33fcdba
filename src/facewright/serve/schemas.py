"""What a server answers, as OpenAPI tells it; lengths are px of a photo of `width` by `height`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

RATE: dict[str, Any] = {"value": 0.01, "low": 0.005, "high": 0.0178, "n": 1100}
BOX = {"x": 61.0, "y": 58.5, "w": 120.0, "h": 120.0}
POINTS = [[157.0, 96.0], [133.0, 97.5], [84.0, 96.5], [109.0, 97.0], [121.0, 138.0]]
FACE: dict[str, Any] = {**BOX, "score": 1.07, "points": POINTS}


class Answer(BaseModel):
    """Of every answer: what is not named here does not come."""

    model_config = ConfigDict(extra="ignore")


class Told(BaseModel):
    code: str = Field(examples=["bad_request"])
    message: str = Field(examples=["expected a file 'photo', got none"])


class Refused(Answer):
    """Every answer that is none."""

    error: Told


class Rate(Answer):
    """A share with its 95 % interval, of n."""

    value: float
    low: float
    high: float
    n: int


class FaceBox(Answer):
    """A face. `score` is the detector's; null where the whole photo was taken for one."""

    x: float
    y: float
    w: float
    h: float
    score: float | None
    points: list[tuple[float, float]] = Field(description="Five points x, y")


class Faces(Answer):
    """The faces of a photo, the surest first; none is an answer."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"width": 250, "height": 250, "faces": [FACE]}]})

    width: int
    height: int
    faces: list[FaceBox]


class EmbeddedFace(FaceBox):
    vector: list[float] = Field(description="Of length 1; the dot product of two is their similarity")


class Embedded(Answer):
    """The vector of each face. Compare only vectors of one fingerprint."""

    width: int
    height: int
    fingerprint: str
    faces: list[EmbeddedFace]


class Guess(Answer):
    name: str
    probability: float


class Decided(Answer):
    """What a model of two classes decides by its stored threshold."""

    name: str
    score: float
    accepted: str
    threshold: float


class Predicted(Answer):
    """The likeliest classes, best first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"top": [{"name": "ann", "probability": 0.93}], "likeness": 0.93, "answer": None}]
        }
    )

    top: list[Guess]
    likeness: float | None = Field(description="Cosine or probability of the nearest class: low for strangers")
    answer: Decided | None
    unknown: bool | None = Field(default=None, description="By the stored threshold; null where there is none")


class Side(Answer):
    """One of two photos, and the face that was taken for the person."""

    width: int
    height: int
    faces: int
    face: FaceBox | None
    said: str | None
    reason: str | None


class Verified(Answer):
    """Same person or not. Null where a photo shows no face, or no threshold holds for these networks."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "score": 0.9769,
                    "threshold": 0.9082,
                    "same": True,
                    "far": RATE,
                    "far_target": 0.01,
                    "probability": 0.999,
                    "data": "LFW View 1 (pairsDevTrain): 1,100 genuine and 1,100 impostor pairs of 2,132 people",
                    "a": {"width": 250, "height": 250, "faces": 1, "face": FACE, "said": None, "reason": None},
                    "b": {"width": 250, "height": 250, "faces": 1, "face": FACE, "said": None, "reason": None},
                }
            ]
        }
    )

    score: float | None = Field(description="Cosine, in [-1, 1]; higher is more alike")
    threshold: float | None
    same: bool | None = Field(description="score >= threshold")
    far: Rate | None = Field(description="False accepts on the pairs that the threshold was chosen on")
    far_target: float | None
    probability: float | None = Field(description="That it is one person, among pairs mixed as those")
    data: str | None
    a: Side
    b: Side


class Overlay(Answer):
    """Pictures as data: addresses (PNG)."""

    overlay: str
    photo: str


class ExplainedPair(Answer):
    """Which regions made two faces alike: heat where covering it makes the score fall."""

    kind: Literal["pair"] = "pair"
    score: float
    drop: float = Field(description="The greatest fall; what full heat stands for")
    a: Overlay
    b: Overlay


class ExplainedClass(Answer):
    """Where a class was seen."""

    model_config = ConfigDict(populate_by_name=True)

    kind: Literal["class"] = "class"
    name: str = Field(serialization_alias="class")
    probability: float
    predicted: str
    overlay: str
    photo: str


class Found(Answer):
    person: str
    score: float
    number: int
    photo: str


class KnownFace(FaceBox):
    """A face looked up. `person` is null for somebody unknown, and where the gallery has no threshold."""

    person: str | None
    matches: list[Found]


class Known(Answer):
    """Every face of a photo, looked up in the gallery."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "width": 250,
                    "height": 250,
                    "threshold": 0.91,
                    "faces": [
                        {
                            **FACE,
                            "person": "Ann",
                            "matches": [{"person": "Ann", "score": 0.97, "number": 17, "photo": "ann.jpg"}],
                        }
                    ],
                }
            ]
        }
    )

    width: int
    height: int
    threshold: float | None
    faces: list[KnownFace]


class Person(Answer):
    person: str
    entries: int
    crop: int | None = Field(description="The number of an entry whose face is kept")


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
    """What one person was enrolled with."""

    person: str
    entries: list[GalleryEntry]


class EnrolledPhoto(Answer):
    person: str
    photo: str
    number: int | None = Field(description="Null: this photo of this person was enrolled already")
    said: str | None = Field(default=None, description="Which face was taken, where there were several")


class FailedPhoto(Answer):
    photo: str
    reason: str


class Enrolled(Answer):
    """What became of each photo."""

    enrolled: int
    already: int
    photos: list[EnrolledPhoto]
    failed: list[FailedPhoto]


class Deleted(Answer):
    """How many entries; and where bytes of them may remain that the server cannot reach."""

    deleted: int
    remains: str = Field(description="Empty for a gallery in a file")


class GalleryThreshold(Answer):
    """When somebody is unknown, chosen among the enrolled."""

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


class Input(Answer):
    height: int
    width: int


class ModelFacts(Answer):
    name: str
    kind: Literal["embedder", "classifier"]
    fingerprint: str
    detector: str
    runtime: Literal["pytorch", "onnx"]
    classes: list[str]
    input: Input


class Can(Answer):
    predict: bool
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


class LimitFacts(Answer):
    bytes: int
    pixels: int
    photos: int


class About(Answer):
    """What this server is and can do."""

    version: str
    model: ModelFacts
    can: Can
    threshold: StoredThreshold | None
    gallery: GalleryFacts | None
    limits: LimitFacts


class Health(Answer):
    status: Literal["ok"] = "ok"
