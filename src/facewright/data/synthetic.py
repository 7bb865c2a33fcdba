"""`synthetic:faces`: the embedded data set, drawn on demand and never stored.

`synthetic:faces?identities=20&images=40&seed=0&size=112&task=identity` is read as a web address is: what is left out
has the value shown here. The classes are the people, or, where the task is an attribute (glasses, hat, beard, mask,
smile), the images with it and those without, half of each. Columns say of each image what it shows beside the person.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, astuple, dataclass, fields, replace
from typing import ClassVar
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray

from facewright.data.addresses import parse_query
from facewright.data.image_records import Record
from facewright.data.portrait import draw_face
from facewright.data.portrait import scene as scene  # groups of faces, as the examples draw them
from facewright.data.portrait.identity import Attributes, Identity, RandomStream, attributes_of, identity_of, moment_of
from facewright.data.records import Dataset
from facewright.errors import DataError, UnknownName, UsageError

DRAWING = 2  # the version of the drawing: raise it with each change that shows, and stored pixels are drawn again
TASKS = ("identity", "glasses", "hat", "beard", "mask", "smile")
COLUMNS = (*(field.name for field in fields(Attributes)), "yaw", "brightness")
"""Columns of the data set: "yes" or "no", "" where a mask hides the smile; the angle in degrees by which the head is
turned, above 0 to the right of the image (so mirroring changes its sign); the strength of the light, around 1."""
_SCHEME = "synthetic:"
_RANGES = {"identities": (1, 10_000), "images": (1, 100_000), "seed": (0, 2**32 - 1), "size": (16, 1024)}
_PATH = re.compile(r"person_(\d+)/(\d+)\.png")


@dataclass(frozen=True)
class FacesSpec:
    """The parameters of `synthetic:faces`: people, images of each, world of people, side in px, and the two classes.

    Raises:
        UsageError: a number out of its range. UnknownName: no such task.
    >>> FacesSpec(identities=3, seed=7).where()
    'synthetic:faces?identities=3&images=40&seed=7&size=112&task=identity'
    """

    identities: int = 20
    images: int = 40
    seed: int = 0
    size: int = 112
    task: str = "identity"

    def __post_init__(self) -> None:
        for key, (low, high) in _RANGES.items():
            value = getattr(self, key)
            if not low <= value <= high:
                raise UsageError(f"synthetic:faces: {key} must be from {low} to {high}, not {value}")
        if self.task not in TASKS:
            raise UnknownName("task", self.task, TASKS)

    @classmethod
    def parse(cls, where: str) -> FacesSpec:
        """Read `synthetic:faces?key=value&…`. Raises UnknownName, UsageError.

        >>> FacesSpec.parse("synthetic:faces?size=64").size
        64
        """
        if not where.startswith(_SCHEME):
            raise UsageError(f"expected {_SCHEME}faces?…, not {where!r}")
        kind, _, query = where.removeprefix(_SCHEME).partition("?")
        if kind != "faces":
            raise UnknownName("synthetic data set", kind, ["faces"])
        given = parse_query(where, query, [*_RANGES, "task"], "synthetic:faces")
        numbers = {key: _whole(key, text) for key, text in given.items() if key != "task"}
        return replace(cls(), **numbers, task=given.get("task", "identity"))

    def where(self) -> str:
        """The address that opens these faces, with every parameter written out."""
        return f"{_SCHEME}faces?{urlencode(asdict(self))}"


def _whole(key: str, text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,12}", text):
        raise UsageError(f"synthetic:faces: {key} must be a whole number, not {text!r}")
    return int(text)


@dataclass(frozen=True)
class SyntheticFaces:
    """The source of the images: draws the image that a record names. Holds numbers only, so it pickles small.

    >>> source = SyntheticFaces(FacesSpec(identities=2, images=3, size=32))
    >>> source.read(Record("person_01/00002.png", 1), None).shape
    (32, 32, 3)
    """

    in_processes: ClassVar[bool] = True  # drawing holds the interpreter: processes draw twice as fast as threads

    spec: FacesSpec

    def read(self, record: Record, at_least: int | None) -> NDArray[np.uint8]:
        """Draw a record's image: (size, size, 3) uint8 RGB. `at_least` makes no drawing cheaper."""
        person, index = self._place(record)
        identity = identity_of(self.spec.seed, person)
        attributes = self.attributes(identity, index)
        return draw_face(identity, self.spec.seed, index, self.spec.size, attributes)[0]

    def attributes(self, identity: Identity, index: int) -> Attributes:
        """Return what image number `index` of a person shows; the task's attribute is in half of the images."""
        spec = self.spec
        attributes = attributes_of(identity, spec.seed, index)
        if spec.task == "identity":
            return attributes
        shown = RandomStream(spec.seed, 4, TASKS.index(spec.task), identity.number, index).chance(0.5)
        return replace(attributes, **{spec.task: shown})

    def values(self, identity: Identity, index: int, shown: Attributes) -> tuple[str, ...]:
        """Return the values of `COLUMNS` for an image that shows this."""
        moment = moment_of(identity, self.spec.seed, index, shown)
        answers = dict(zip(COLUMNS, ("yes" if one else "no" for one in astuple(shown)), strict=False))
        if shown.mask:
            answers["smile"] = ""
        brightness = moment.ambient + 0.62 * moment.diffuse  # the exposure that `moment_of` drew
        return (*answers.values(), f"{math.degrees(moment.yaw):.2f}", f"{brightness:.4f}")

    def content_key(self, record: Record) -> str:
        """As `PixelSource.content_key`: the drawing's version and all that it depends on."""
        person, index = self._place(record)
        spec = self.spec
        return f"synthetic:faces/{DRAWING}/{spec.seed}/{spec.size}/{spec.task}/{person}/{index}"

    def stamp(self, record: Record) -> str:
        """As `PixelSource.stamp`: constant but for the drawing's version: nothing on disk can change."""
        return f"synthetic:{DRAWING}"

    def _place(self, record: Record) -> tuple[int, int]:
        match = _PATH.fullmatch(record.path)
        if match is None or int(match[1]) >= self.spec.identities or int(match[2]) >= self.spec.images:
            raise DataError(f"{record.path}: not an image of {self.spec.where()}")
        return int(match[1]), int(match[2])


def open_synthetic(where: str) -> Dataset:
    """The data set at an address such as `synthetic:faces?identities=20&images=40&seed=0`; nothing is drawn yet.

    Records are called `person_07/00012.png`, each with its identity and the values of `COLUMNS`. Raises UnknownName: an
    unknown key or task. UsageError: a value out of its range.

    >>> data = open_synthetic("synthetic:faces?identities=3&images=2&task=mask")
    >>> data.classes, len(data.records), data.records[5].path
    (('mask', 'no_mask'), 6, 'person_02/00001.png')
    """
    spec = FacesSpec.parse(where)
    source = SyntheticFaces(spec)
    people = [f"person_{k:0{max(2, len(str(spec.identities - 1)))}d}" for k in range(spec.identities)]
    classes = tuple(people) if spec.task == "identity" else tuple(sorted((spec.task, f"no_{spec.task}")))
    records = []
    for k, person in enumerate(people):
        identity = identity_of(spec.seed, k)
        for index in range(spec.images):
            shown = source.attributes(identity, index)
            name = spec.task if getattr(shown, spec.task, False) else f"no_{spec.task}"
            label = k if spec.task == "identity" else classes.index(name)
            values = source.values(identity, index, shown)
            records.append(Record(f"{person}/{index:05d}.png", label, identity=person, values=values))
    return Dataset(name="faces", where=where, classes=classes, records=tuple(records), source=source, columns=COLUMNS)
