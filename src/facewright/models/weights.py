"""Public weights of an architecture, by name or out of a file: found, checked, renamed, and loaded whole or not at all.

<cache>/weights/<architecture>@<name>.safetensors          what is loaded
<cache>/weights/<architecture>@<name>.safetensors.sha256   its checksum when it came; it must stay so
<cache>/weights/<architecture>@<name>.pth                  a download on its way to be converted
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict
from torch import Tensor

from facewright.errors import FacewrightError, UnknownName, UsageError, WeightsError
from facewright.files import model_file, parse_json
from facewright.input_spec import InputSpec
from facewright.models import bridge, conversion, released
from facewright.models.blocks import Model
from facewright.models.catalog import describe, is_bridged
from facewright.models.conversion import WeightFile, read_weights
from facewright.models.downloads import Progress, Remote, fetch, pinned, unchanged
from facewright.models.face_weights import download_reporter, face_weights, file_of
from facewright.models.released import Weights, cached_file, expected_input
from facewright.models.weight_matching import (
    MatchedWeights,
    compare,
    match_weights,
    namings,
    published_stem,
    shapes,
    without_other_head,
)
from facewright.records import Record

NONE = "none"  # what stands for fresh weights

LOG = logging.getLogger("facewright.models")


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights in memory that are an architecture's."""

    architecture: str
    name: str  # of the released weights, or of the file
    sha256: str  # of the file they were read from
    spec: InputSpec  # what they expect to be fed
    state: Mapping[str, Tensor]  # under our names, float32; the classifier's where there is one
    classes: int  # of that classifier; 0 without one (face networks are published so)
    licence: str  # "unknown" for a file
    stem: str  # that they were trained with

    @property
    def title(self) -> str:
        return f"{self.architecture}@{self.name}"


def parse_model(text: str) -> tuple[str, str | None]:
    """Parse the name of a model with weights: NAME, NAME@WEIGHTS or NAME@FILE.

    Returns:
        The architecture, and what stands behind the @; None without one, and for "none".
    Raises:
        UnknownName: no such architecture.
        UsageError: nothing stands behind the @.
    >>> parse_model("mobilenet_v2@imagenet"), parse_model("resnet18")
    (('mobilenet_v2', 'imagenet'), ('resnet18', None))
    """
    architecture, at, which = text.partition("@")
    describe(architecture)
    if at and not which:
        raise UsageError(f"{text}: expected a name of weights or a file behind the @, as in {architecture}@imagenet")
    return architecture, None if which in ("", NONE) else which


def open_weights(
    architecture: str, which: str | Path, *, cache: Path | None = None, progress: Progress | None = None
) -> PretrainedWeights:
    """Weights by name or out of a file.

    Args:
        which: a released name ("imagenet"); "pretrained" of an architecture of timm or torchvision; or a safetensors
            file, as a path or its text: parameters under our names, torchvision's, timm's, timesler's or a
            MobileFaceNet port's, or a bundle of this architecture, or the directory of its run. Where a name is both,
            the released one is meant; "./NAME" is the file.
        cache: the folder; `cache_folder()` where None.
        progress: takes bytes done and in all, while safetensors are downloaded. Pickles are not: `get_weights` is the
            explicit step that downloads and converts them.
    Raises:
        UnknownName: no such architecture or weights.
        WeightsError: they cannot be had, or are not what they should be; nothing is loaded.
    """
    LOG.info("weights of %s: %s", architecture, which)
    if is_bridged(architecture) and isinstance(which, str) and not Path(which).exists() and not Path(which).suffix:
        found = bridge.pretrained(architecture, which)
        licence = f"see {found.source}"
        return PretrainedWeights(architecture, which, found.sha256, found.spec, found.state, 0, licence, "imagenet")
    known = [weights.name for weights in released.released(architecture)]
    if isinstance(which, str) and which in known:
        return _open_released(released.find(architecture, which), cache, progress)
    path = Path(which).expanduser()
    if isinstance(which, str) and not path.exists() and not path.suffix and path.name == which:
        raise UnknownName(f"weights of {architecture}", which, [*known, "or a .safetensors file"])
    return _open_file(architecture, model_file(path))


def find_weights(text: str) -> Weights:
    """Return released weights by architecture@name, or a face recognizer or detector by its name.

    Raises:
        UsageError: another form. UnknownName: no such architecture or weights.
    """
    if (row := face_weights(text)) is not None:
        return row
    architecture, name = parse_model(text)
    if name is None:
        names = ", ".join(row.name for row in released.released(architecture)) or "none known by name"
        raise UsageError(f"{text}: expected NAME@WEIGHTS; weights of {architecture}: {names}")
    return released.find(architecture, name)


def get_weights(weights: str | Weights, *, cache: Path | None = None, progress: Progress | None = None) -> Path:
    """Download released weights, and convert them where they are a pickle.

    Args:
        weights: a row of `released` or `face_weights`, architecture@name, or the name of a face network.
    Returns:
        The safetensors or ONNX file in the cache.
    Raises:
        WeightsError: they cannot be had, or are not what they should be; nothing of them stays.
    """
    weights = find_weights(weights) if isinstance(weights, str) else weights
    if weights.of is not None:
        return get_weights(weights.of, cache=cache, progress=progress)
    if not weights.architecture:
        return file_of(weights, cache=cache, progress=progress)
    file = cached_file(weights, cache)
    if file.is_file():
        _ = pinned(file, weights.sha256) if weights.is_safe else unchanged(file)
        return file
    remote = Remote(weights.source, weights.sha256)
    download = file.with_name(weights.file_name)
    fetch(remote, download, download_reporter(weights.title) if progress is None else progress)
    if not weights.is_safe:
        conversion.convert(download, weights.architecture, file)
        file.with_name(f"{file.name}.sha256").unlink(missing_ok=True)  # of one that was converted before, and removed
        unchanged(file)
        for spent in (download, download.with_name(f"{download.name}.sha256")):
            spent.unlink(missing_ok=True)
    return file


def load_into(model: Model, loaded: PretrainedWeights) -> tuple[str, ...]:
    """Put weights into a network, whole or not at all.

    Returns:
        What is worth saying: that the classifier stayed fresh, and why. Empty where every number was loaded.
    Raises:
        WeightsError: a name is missing or unexpected, or has another shape (another stem, perhaps); the message lists
            them, and the network is as it was.
    """
    own, prefix = model.state_dict(), f"{model.classifier_name}."
    backbone = {name: tensor for name, tensor in loaded.state.items() if not name.startswith(prefix)}
    head = {name: tensor for name, tensor in loaded.state.items() if name.startswith(prefix)}
    own_head = {name: tensor for name, tensor in own.items() if name.startswith(prefix)}
    difference = compare(shapes({name: own[name] for name in own if name not in own_head}), shapes(backbone))
    if difference.count:
        hint = f"; these weights want the {loaded.stem} stem" if difference.misshapen else ""
        raise WeightsError(f"{loaded.title} does not fit the network: {difference}{hint}")
    same = bool(head) and shapes(head) == shapes(own_head)
    model.load_state_dict({**own_head, **backbone, **(head if same else {})}, strict=True)
    return () if same else (_classifier_message(loaded, own_head.get(f"{prefix}weight")),)


def _classifier_message(loaded: PretrainedWeights, weight: Tensor | None) -> str:
    """Return a message that a new classifier is trained; `weight` is None for a head of several layers."""
    new = "a new head" if weight is None else f"a new {weight.shape[0]:,}-class head"
    if loaded.classes == 0:
        return f"{loaded.title}: the weights have no classifier; training {new}"
    return f"{loaded.title}: the classifier of {loaded.classes:,} classes was replaced by {new}"


def _open_released(weights: Weights, cache: Path | None, progress: Progress | None) -> PretrainedWeights:
    file = cached_file(weights, cache)
    if not file.is_file() and not weights.is_safe:
        raise WeightsError(
            f"{weights.architecture}@{weights.name} is not on this machine as safetensors yet; get it once:"
            f" facewright weights get {weights.architecture}@{weights.name}"
        )
    get_weights(weights, cache=cache, progress=progress)
    opened = read_weights(file)
    matched = match_weights(weights.architecture, opened.tensors, str(file))
    assert weights.spec is not None  # only detectors have none
    return PretrainedWeights(
        weights.architecture,
        weights.name,
        opened.sha256,
        weights.spec,
        matched.state,
        matched.classes,
        weights.licence,
        published_stem(weights.architecture),
    )


def _open_file(architecture: str, path: Path) -> PretrainedWeights:
    opened = read_weights(path)
    if (text := opened.metadata.get("facewright")) is not None:
        return _from_bundle(architecture, path, opened, text)
    matched, stem = match_weights(architecture, opened.tensors, str(path)), published_stem(architecture)
    spec = _input_of(architecture, matched, opened)
    return PretrainedWeights(
        architecture, path.name, opened.sha256, spec, matched.state, matched.classes, "unknown", stem
    )


def _input_of(architecture: str, matched: MatchedWeights, opened: WeightFile) -> InputSpec:
    """Return the assumed input of the weights in a file: the family's default, or that of its naming."""
    origin = conversion.naming_of(opened.metadata) or matched.naming.name
    spec = expected_input(architecture)
    if any(naming.imagenet for naming in namings(describe(architecture).family) if naming.name == origin):
        return replace(spec, mean=released.IMAGENET_MEAN, std=released.IMAGENET_STD)
    return spec


class _BundleHeader(Record):
    """The metadata of a Facewright bundle, as far as its weights need them."""

    model_config = ConfigDict(extra="ignore")
    architecture: str
    stem: str
    classes: list[Any]
    input: dict[str, Any]


def _from_bundle(architecture: str, path: Path, opened: WeightFile, text: str) -> PretrainedWeights:
    """A network that was trained here; a head of another kind than the architecture's own stays behind."""
    header = parse_json(text, _BundleHeader, f"{path}: metadata of a bundle", error=WeightsError)
    if header.architecture != architecture:
        raise WeightsError(f"{path}: a bundle of {header.architecture}, not of {architecture}")
    if header.stem not in describe(architecture).stems:
        raise WeightsError(f"{path}: its metadata names no stem of {architecture}: {header.stem!r}")
    try:
        spec = InputSpec.from_dict(header.input)
    except (FacewrightError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: its input description is not usable ({error})") from None
    matched = match_weights(architecture, without_other_head(architecture, opened.tensors), str(path), header.stem)
    return PretrainedWeights(
        architecture, path.name, opened.sha256, spec, matched.state, matched.classes, "its maker's", header.stem
    )
