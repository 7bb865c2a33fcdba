"""One .safetensors file: weights + architecture + classes + InputSpec + thresholds + provenance, checked metadata.

The architecture's name is looked up in the catalogue and nowhere else: a file can name a model but never bring code.
An .onnx file of `facewright export` holds the same, with a graph in place of the weights (`graphs`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import safetensors
from pydantic import BaseModel, ConfigDict

from facewright import graphs
from facewright.errors import BundleError, FacewrightError, UsageError
from facewright.files import check_manifest, not_the_file, parse_json, rewriting, write_atomic, write_tensors
from facewright.graphs import EMBEDDING, LOGITS, Graph
from facewright.input_spec import InputSpec, Template
from facewright.metrics.thresholds import Threshold

if TYPE_CHECKING:
    from torch import Tensor, nn

    from facewright.specs import HeadSpec, TaskSpec


FORMAT = 1
LARGEST_SIDE = 2048  # px of the input
Precision = Literal["float32", "int8"]


@dataclass(frozen=True)
class Exported:
    """The graph that an exported model has in place of weights."""

    graph: Graph
    precision: Precision  # of its weights and sums
    fingerprints: Mapping[str, str]  # of each output of the graph; of float32 those of the model it was made of
    checked: Mapping[str, Any]  # how it was compared with that model


@dataclass(frozen=True)
class Bundle:
    """A model that can be used without the run that made it."""

    architecture: str  # a name of the catalogue
    stem: str
    classes: tuple[str, ...]  # in the order of the scores; none: it embeds and has no classifier
    spec: InputSpec
    weights: Mapping[str, Tensor]
    provenance: Mapping[str, Any] = field(default_factory=dict)  # recipe, seed, data fingerprint, versions
    thresholds: tuple[Threshold, ...] = ()
    head: HeadSpec | None = None  # None: the architecture's own classifier
    exported: Exported | None = None  # None: the weights are PyTorch's
    template: Template | None = None  # of the aligned crops it expects; None: ArcFace's
    task: TaskSpec | None = None  # targets in place of classes; `classes` are then the names of the scores

    def model(self) -> nn.Module:
        """The network with these weights, in inference mode; without classes it gives features in place of scores.

        Raises:
            BundleError: the weights are not those of this architecture; names what is missing, extra or misshapen. Or
                it was exported, and has none.
        """
        if self.exported is not None:
            raise BundleError(
                "an exported .onnx holds no PyTorch network, which this needs: use the run or the .safetensors it was "
                "made of"
            )
        import torch
        from torch import nn

        from facewright.heads import put_head
        from facewright.models.catalog import create_model
        from facewright.models.weight_matching import compare, shapes

        with torch.device("meta"):
            count = max(1, len(self.classes))
            model = create_model(self.architecture, count, input_size=self.spec.height, stem=self.stem)
            put_head(model, self.head, count, () if self.task is None else self.task.tied)
            if not self.classes:
                model.set_submodule(model.classifier_name, nn.Identity())
        expected, found = shapes(model.state_dict()), shapes(self.weights)
        if expected != found:
            raise BundleError(f"the weights are not those of {self.architecture}: {compare(expected, found)}")
        model.load_state_dict(dict(self.weights), strict=True, assign=True)
        return model.eval().requires_grad_(False)


def with_input(bundle: Bundle, crop: float | None, flip: bool | None) -> Bundle:
    """The bundle with another crop or flip of its InputSpec; None leaves the model's own.

    Raises:
        UsageError: a value out of range; or another one than the exported graph was made for.
    """
    spec = bundle.spec
    spec = spec if crop is None else replace(spec, crop=crop)
    spec = spec if flip is None else replace(spec, flip=flip)
    if bundle.exported is not None and spec != bundle.spec:
        raise UsageError(
            f"an exported .onnx keeps the crop of {bundle.spec.crop:g} and the flip of {bundle.spec.flip} it was made "
            "with: leave out --crop and --flip, or export the model again with them"
        )
    return replace(bundle, spec=spec)


def fingerprint(bundle: Bundle, tensors: Iterable[str]) -> str:
    """32 hex characters that stand for what becomes of an image in a network: not for classes, thresholds or origin.

    Beside the named weights count the architecture, the stem, the head and the InputSpec.
    """
    import torch

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
    thresholds: tuple[Threshold, ...]
    head: dict[str, Any] | None = None
    template: Template | None = None
    task: dict[str, Any] | None = None  # left out of the file where it is None


class ExportedHeader(BaseModel):
    """The metadata as they stand in an exported file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    bundle: Header
    graph: str  # its digest: a graph that was changed is another model
    precision: Precision
    fingerprints: dict[str, str]
    checked: dict[str, Any]


def save(path: Path, bundle: Bundle) -> None:
    """Write a bundle, atomically. Raises UsageError: a graph in a file not called .onnx, or weights in one that is."""
    exported, header = bundle.exported, _header_of(bundle)
    if is_exported(path) != (exported is not None):
        kind = "PyTorch weights" if exported is None else "an exported graph"
        suffix = ".safetensors" if exported is None else graphs.SUFFIX
        raise UsageError(f"{path}: the model is {kind}; call its file NAME{suffix}")
    if exported is None:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in bundle.weights.items()}
        with rewriting(path):
            text = header.model_dump_json(exclude={"task"} if bundle.task is None else None)
            write_tensors(path, tensors, {graphs.KEY: text})
        return
    whole = ExportedHeader(
        bundle=header,
        graph=exported.graph.digest,
        precision=exported.precision,
        fingerprints=dict(exported.fingerprints),
        checked=dict(exported.checked),
    )
    text = whole.model_dump_json(exclude={"bundle": {"task"}} if bundle.task is None else None)
    write_atomic(path, exported.graph.with_metadata(text))


def is_exported(path: Path) -> bool:
    """Tell whether a file is, by its name, one of `facewright export`."""
    return path.suffix.lower() == graphs.SUFFIX


def _header_of(bundle: Bundle) -> Header:
    return Header(
        format=FORMAT,
        architecture=bundle.architecture,
        stem=bundle.stem,
        classes=list(bundle.classes),
        input=bundle.spec.to_dict(),
        provenance=dict(bundle.provenance),
        thresholds=bundle.thresholds,
        head=None if bundle.head is None else bundle.head.to_dict(),
        template=bundle.template,
        task=None if bundle.task is None else bundle.task.to_dict(),
    )


def load(path: Path) -> Bundle:
    """Read a bundle, or, where its name ends in .onnx, an exported one.

    Raises:
        BundleError: no such file, not safetensors, or metadata that is not a bundle's; as `graphs.read`.
    """
    if not path.is_file():
        raise BundleError(f"{path}: no such file; expected a model: a run directory, a .safetensors or an .onnx file")
    if is_exported(path):
        return _load_exported(path)
    check_manifest(path.parent, [path.name], error=BundleError)
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            header = _header(path, metadata)
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        with path.open("rb") as file:
            instead = not_the_file(file.read(64))
        raise BundleError(f"{path}: {instead or f'not a safetensors file that can be trusted ({error})'}") from None
    return _bundle(path, header, {name: _usable(path, name, tensor) for name, tensor in weights.items()})


def _usable(path: Path, name: str, tensor: Tensor) -> Tensor:
    """A weight as the network takes it: half precision becomes float32; whole numbers (batch counters) stay."""
    import torch

    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    if tensor.dtype not in (torch.float32, torch.int64):
        raise BundleError(f"{path}: {name} is {tensor.dtype}; expected float32, half precision or int64")
    if tensor.dtype == torch.float32 and not bool(torch.isfinite(tensor).all()):
        count = int((~torch.isfinite(tensor)).sum())
        raise BundleError(f"{path}: {name} holds {count:,} values that are NaN or infinite: the weights are damaged")
    return tensor


def _load_exported(path: Path) -> Bundle:
    graph, text = graphs.read(path)
    header = parse_json(text, ExportedHeader, f"{path}: its metadata", error=BundleError)
    _check_format(path, header.bundle)
    bundle = _bundle(path, header.bundle, {})
    outputs = {EMBEDDING, LOGITS} if bundle.classes else {EMBEDDING}
    if header.graph != graph.digest:
        raise BundleError(
            f"{path}: its graph is not the one that was exported: something changed it; export the model again"
        )
    if (graph.height, graph.width) != (bundle.spec.height, bundle.spec.width):
        raise BundleError(f"{path}: its graph reads images of another size than its metadata say")
    if not set(graph.outputs) == set(header.fingerprints) == outputs:
        raise BundleError(f"{path}: expected the outputs {', '.join(sorted(outputs))}, got {', '.join(graph.outputs)}")
    if graph.outputs.get(LOGITS, 0) != len(bundle.classes):
        raise BundleError(f"{path}: {len(bundle.classes)} classes, and a graph that scores {graph.outputs[LOGITS]}")
    return replace(bundle, exported=Exported(graph, header.precision, header.fingerprints, header.checked))


def _bundle(path: Path, header: Header, weights: Mapping[str, Tensor]) -> Bundle:
    """Return what a checked header says; BundleError where its input, names, head or task are not usable."""
    try:
        spec = InputSpec.from_dict(header.input)
    except (FacewrightError, TypeError, ValueError) as error:
        raise BundleError(f"{path}: its input description is not usable ({error})") from None
    if max(spec.height, spec.width) > LARGEST_SIDE:
        raise BundleError(
            f"{path}: its input is {spec.height} x {spec.width} px; expected at most {LARGEST_SIDE} a side"
        )
    names = header.classes
    if len(set(names)) < len(names) or not all(name.strip() for name in names):
        wrong = next((name for name in names if not name.strip() or names.count(name) > 1), "")
        raise BundleError(f"{path}: expected different, non-empty class names, got {wrong!r}")
    head, task = _head_and_task(path, header)
    return Bundle(
        header.architecture, header.stem, tuple(names), spec, weights, header.provenance, header.thresholds, head,
        template=header.template, task=task,
    )  # fmt: skip


def _head_and_task(path: Path, header: Header) -> tuple[HeadSpec | None, TaskSpec | None]:
    if header.head is None and header.task is None:
        return None, None
    from facewright.specs import (
        HeadSpec,  # few commands open a model with a head of its own
        TaskSpec,
    )

    part = "head"
    try:
        head = None if header.head is None else HeadSpec.from_dict(header.head)
        part = "task"
        task = None if header.task is None else TaskSpec.from_dict(header.task)
    except FacewrightError as error:
        raise BundleError(f"{path}: its {part} is not usable ({error})") from None
    if task is not None and task.scores != tuple(header.classes):
        raise BundleError(f"{path}: expected the scores {', '.join(task.scores)[:200]} of its task")
    for target in () if task is None else task.targets:
        known = target.number
        if known is not None and None in (known.low, known.high, known.median):
            raise BundleError(f"{path}: the range and the median of {target.name} are missing")
    return head, task


def _header(path: Path, metadata: Mapping[str, str]) -> Header:
    text = metadata.get(graphs.KEY)
    if text is None:
        raise BundleError(f"{path}: safetensors, but not a Facewright bundle (no metadata under '{graphs.KEY}')")
    header = parse_json(text, Header, f"{path}: its metadata", error=BundleError)
    _check_format(path, header)
    return header


def _check_format(path: Path, header: Header) -> None:
    if header.format != FORMAT:
        raise BundleError(f"{path}: bundle format {header.format}, this version reads {FORMAT}; use a newer Facewright")
