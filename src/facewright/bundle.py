"""One .safetensors file: weights + architecture + classes + InputSpec + thresholds + provenance.

The metadata is one JSON text under the key `facewright`, checked against the types below; the architecture's name is
looked up in the catalogue and nowhere else, so a file can name a model but never bring code. Nothing is unpickled: a
file that is not safetensors is refused, whatever it is called.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from facewright.errors import BundleError, FacewrightError
from facewright.files import write_atomic
from facewright.heads import HeadSpec, build
from facewright.input_spec import InputSpec
from facewright.models.catalog import create_model
from facewright.models.families import Model

FORMAT = 1


@dataclass(frozen=True)
class Bundle:
    """A model that can be used without the run that made it."""

    architecture: str  # a name of the catalogue
    stem: str
    classes: tuple[str, ...]  # in the order of the scores; none: it embeds and has no classifier
    spec: InputSpec
    weights: Mapping[str, Tensor]
    provenance: Mapping[str, Any] = field(default_factory=dict)  # recipe, seed, data fingerprint, versions
    thresholds: tuple[Mapping[str, Any], ...] = ()
    head: HeadSpec | None = None  # None: the architecture's own classifier

    def model(self) -> nn.Module:
        """The network with these weights, in inference mode; without classes it gives features in place of scores.

        Raises:
            UnknownName: the architecture is in no table.
            BundleError: the weights are not those of this architecture; names what is missing, extra or misshapen.
        """
        with torch.device("meta"):
            count = max(1, len(self.classes))
            model = create_model(self.architecture, count, input_size=self.spec.height, stem=self.stem)
            put_head(model, self.head, count)
            if not self.classes:
                model.set_submodule(model.classifier_name, nn.Identity())
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        found = {name: tuple(tensor.shape) for name, tensor in self.weights.items()}
        if expected != found:
            raise BundleError(f"the weights are not those of {self.architecture}: {_difference(expected, found)}")
        model.load_state_dict(dict(self.weights), strict=True, assign=True)
        return model.eval().requires_grad_(False)


def put_head(model: Model, head: HeadSpec | None, classes: int) -> None:
    """Replace the architecture's own classifier by a fresh head; None leaves it.

    Its weights come from PyTorch's global random generator. `model(pictures)` gives its scores from then on.
    """
    if head is not None:
        model.set_submodule(model.classifier_name, build(head, model.feature_width, classes))


def fingerprint(bundle: Bundle, tensors: Iterable[str]) -> str:
    """32 hex characters that stand for what becomes of a picture in a network: not for classes, thresholds or origin.

    Args:
        tensors: the names of those weights that have a part in it; beside them count the architecture, the stem, the
            head and the InputSpec.
    """
    head = None if bundle.head is None else bundle.head.to_dict()
    facts = [bundle.architecture, bundle.stem, head, bundle.spec.to_dict()]
    state = hashlib.blake2b(json.dumps(facts).encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = bundle.weights[name].detach().cpu().contiguous()
        state.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        state.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()


class Header(BaseModel):
    """The metadata as it stands in the file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: int
    architecture: str
    stem: str
    classes: list[str]
    input: dict[str, Any]
    provenance: dict[str, Any]
    thresholds: list[dict[str, Any]]
    head: dict[str, Any] | None = None


def save(path: Path, bundle: Bundle) -> None:
    """Write a bundle, atomically.

    Raises:
        FacewrightError: it could not be written whole; what was there before is unchanged.
    """
    header = Header(
        format=FORMAT,
        architecture=bundle.architecture,
        stem=bundle.stem,
        classes=list(bundle.classes),
        input=bundle.spec.to_dict(),
        provenance=dict(bundle.provenance),
        thresholds=[dict(item) for item in bundle.thresholds],
        head=None if bundle.head is None else bundle.head.to_dict(),
    )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in bundle.weights.items()}
    write_atomic(path, safetensors.torch.save(tensors, {"facewright": header.model_dump_json()}))


def load(path: Path) -> Bundle:
    """Read a bundle.

    Raises:
        BundleError: no such file, not safetensors, or metadata that is not a bundle's.
    """
    if not path.is_file():
        raise BundleError(f"{path}: no such file; expected a bundle (.safetensors) or a run directory that holds one")
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            header = _header(path, metadata)
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise BundleError(f"{path}: not a safetensors file that can be trusted ({error})") from None
    try:
        spec = InputSpec.from_dict(header.input)
    except (FacewrightError, TypeError, ValueError) as error:
        raise BundleError(f"{path}: its input description is not usable ({error})") from None
    try:
        head = None if header.head is None else HeadSpec.from_dict(header.head)
    except FacewrightError as error:
        raise BundleError(f"{path}: its head is not usable ({error})") from None
    return Bundle(
        header.architecture,
        header.stem,
        tuple(header.classes),
        spec,
        weights,
        header.provenance,
        tuple(header.thresholds),
        head,
    )


def _header(path: Path, metadata: Mapping[str, str]) -> Header:
    text = metadata.get("facewright")
    if text is None:
        raise BundleError(f"{path}: safetensors, but not a Facewright bundle (no metadata under 'facewright')")
    try:
        header = Header.model_validate(json.loads(text))
    except (ValidationError, ValueError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path}: its metadata is not a bundle's ({where}: {first['msg']})") from None
    if header.format != FORMAT:
        raise BundleError(f"{path}: bundle format {header.format}, this version reads {FORMAT}; use a newer Facewright")
    return header


def _difference(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(found.keys() - expected.keys())
    shaped = [
        f"{name} is {found[name]}, not {expected[name]}"
        for name in sorted(expected.keys() & found.keys())
        if expected[name] != found[name]
    ]
    parts = [("missing", missing), ("unexpected", extra), ("misshapen", shaped)]
    return "; ".join(
        f"{len(items)} {kind} ({', '.join(items[:3])}{', …' if len(items) > 3 else ''})"
        for kind, items in parts
        if items
    )
