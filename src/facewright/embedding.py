"""From images to unit vectors that can be compared: a bundle, or public weights, made ready to tell people apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright import bundle as bundles
from facewright import images
from facewright.bundle import Bundle, Exported
from facewright.data.decoding import smallest_side
from facewright.errors import BundleError, DataError, UsageError
from facewright.faces.alignment import parse_template
from facewright.faces.onnx_detectors import detector_family
from facewright.faces.quality import TypicalNorm
from facewright.files import as_record, model_file
from facewright.graphs import EMBEDDING, Both, as_rows, fitted
from facewright.input_spec import InputSpec, Template
from facewright.models.face_weights import face_weights, file_of
from facewright.models.released import Weights
from facewright.onnx_import import wrap

if TYPE_CHECKING:
    from torch import Tensor

    from facewright.models.blocks import Model

BATCH = 64
IMPORTED = "imported"  # the architecture of a graph from elsewhere
NORM = "norm"  # in the provenance of a model: its `TypicalNorm`
SHORTEST = 1e-12  # of a vector that has a direction


@dataclass(frozen=True)
class Embedded:
    """One file's vector, (D,) float32 of unit length; or why there is none."""

    path: str
    vector: NDArray[np.float32] | None
    error: str | None = None


class Embedder:
    """A network without its last, class-specific layer, and the preprocessing that goes with it.

    Args:
        bundle: weights or graph, and InputSpec; its head's embedding is taken if it has one, else the backbone's
            features.
        name: what it is called in results. device: what computes, as for `devices.choose`.
    """

    def __init__(self, bundle: Bundle, name: str = "", device: str | None = None) -> None:
        self.bundle = bundle
        self.name = name or bundle.architecture
        self.spec = bundle.spec
        self._network = (
            _InPyTorch(bundle, device) if bundle.exported is None else _InOnnxRuntime(bundle, bundle.exported, device)
        )
        self.width = self._network.width  # D

    @classmethod
    def load(
        cls, model: str | Path, *, crop: float | None = None, flip: bool | None = None, device: str | None = None
    ) -> Embedder:
        """From a run directory, a bundle file, an .onnx file, or architecture@weights (see `models.weights`).

        Args:
            crop: share of each side to keep, in place of the model's own; another one is another embedder.
            flip: average with the mirror image, likewise.
            device: as of the class.
        Raises:
            BundleError, WeightsError: the file is not what it should be. UsageError: an architecture without weights,
                or no such thing at all. UnknownName: no such architecture or weights.
        """
        return cls(bundles.with_input(open_model(model), crop, flip), str(model), device)

    @property
    def fingerprint(self) -> str:
        """32 hex characters: two embeddings can be compared where, and only where, these are equal.

        Of the architecture, the stem, the head, the InputSpec, and the weights that an embedding passes through. An
        exported model has that of the model it was made of; in int8 it has one of its own.
        """
        return self._network.fingerprint

    def embed(self, pixels: NDArray[np.uint8] | Tensor) -> NDArray[np.float32]:
        """Unit vectors of images.

        In a batch of another size the same image's vector may differ in its last bits, its cosines by up to 5e-7.

        Args:
            pixels: (B, H, W, 3) uint8 RGB, or a tensor (B, 3, H, W); resized where H and W are not the network's.
        Returns:
            (B, D) float32; each row of length 1.
        Raises:
            DataError: the network gives no finite vector, or none with a direction.
        """
        given = as_rows(pixels)
        parts = [given[start : start + BATCH] for start in range(0, len(given), BATCH)]
        vectors = [self._vectors(rows, self._network.features(rows)) for rows in parts]
        return np.concatenate([np.zeros((0, self.width), np.float32), *vectors])

    def embed_with_norms(self, pixels: NDArray[np.uint8] | Tensor) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Unit vectors (B, D) as `embed`; and the norms of the embeddings (B,), NaN where the model does not give them.

        Norms are those before the mirror image is added. Exported files of older versions do not give them.
        """
        given = as_rows(pixels)
        vectors, norms = [np.zeros((0, self.width), np.float32)], [np.zeros(0)]
        for start in range(0, len(given), BATCH):
            rows = given[start : start + BATCH]
            features, lengths = self._network.features_with_norms(rows)
            vectors.append(self._vectors(rows, features))
            norms.append(lengths)
        return np.concatenate(vectors), np.concatenate(norms)

    @cached_property
    def typical_norm(self) -> TypicalNorm | None:
        """The typical norm of the embeddings, where it is known and says something about scores (`faces.quality`).

        Raises:
            BundleError: what the model file says of it is damaged.
        """
        held = self.bundle.provenance.get(NORM)
        return None if held is None else as_record(held, TypicalNorm, f"{self.name}: {NORM}", error=BundleError)

    def _vectors(self, rows: NDArray[np.uint8], features: NDArray[np.float64]) -> NDArray[np.float32]:
        vectors = _unit(features)
        if self.spec.flip and self.bundle.exported is None:
            vectors = _unit(vectors + _unit(self._network.features(rows[:, :, ::-1])))
        return vectors.astype(np.float32)

    def of_files(self, paths: Sequence[Path]) -> list[Embedded]:
        """The vector of each image; a broken file gets an error of its own and stops nothing."""
        return list(self.stream(paths))

    def stream(self, paths: Sequence[Path]) -> Iterator[Embedded]:
        """As `of_files`, a batch at a time: any number of files in bounded memory."""
        for start in range(0, len(paths), BATCH):
            part = paths[start : start + BATCH]
            read = [self._read(path) for path in part]
            good = [pixels for pixels in read if not isinstance(pixels, str)]
            rows = iter(self.embed(np.stack(good)) if good else ())
            for path, pixels in zip(part, read, strict=True):
                if isinstance(pixels, str):
                    yield Embedded(str(path), None, pixels)
                else:
                    yield Embedded(str(path), next(rows))

    def _read(self, path: Path) -> NDArray[np.uint8] | str:
        """Pixels fitted to the network's input (H, W, 3), or why there are none."""
        pixels = images.try_read(path, at_least=smallest_side(self.spec))
        return pixels if isinstance(pixels, str) else self.spec.fit(pixels)


class _InPyTorch:
    """The backbone of a bundle, and the layers of its head."""

    def __init__(self, bundle: Bundle, device: str | None) -> None:
        import torch

        from facewright.devices import choose
        from facewright.heads import own_head

        self._bundle, self._device = bundle, choose(device)
        model = bundle.model().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._body = cast("Model", model.to(self._device))
        self._head = own_head(self._body)
        self.width = self._body.feature_width if self._head is None else self._head.width  # D

    @cached_property
    def fingerprint(self) -> str:
        prefix = f"{self._body.classifier_name}."
        used = (n for n in self._bundle.weights if not n.startswith(prefix) or n.startswith(f"{prefix}layers."))
        return bundles.fingerprint(self._bundle, used)

    def features(self, rows: NDArray[np.uint8]) -> NDArray[np.float64]:
        import torch

        from facewright.data.augment import normalise, resize
        from facewright.devices import moved

        spec = self._bundle.spec
        with torch.inference_mode():
            pixels = torch.from_numpy(np.ascontiguousarray(rows)).permute(0, 3, 1, 2)
            inputs = moved(normalise(resize(pixels, spec.height, spec.width), spec), self._device)
            features = self._body.forward_features(inputs)
            embedded: Tensor = features if self._head is None else self._head.embed(features)
            return np.asarray(embedded.cpu().double().numpy())

    def features_with_norms(self, rows: NDArray[np.uint8]) -> Both:
        features = self.features(rows)
        return features, np.linalg.norm(features, axis=1)


class _InOnnxRuntime:
    """A graph, in which lies all that is done to pixels."""

    def __init__(self, bundle: Bundle, exported: Exported, device: str | None) -> None:
        self._graph, self._device = exported.graph, device
        self.width = exported.graph.outputs[EMBEDDING]  # D
        self.fingerprint = exported.fingerprints[EMBEDDING]
        self._run = exported.graph.run(EMBEDDING, device)

    def features(self, rows: NDArray[np.uint8]) -> NDArray[np.float64]:
        return self._run(fitted(rows, self._graph.height, self._graph.width))

    @cached_property
    def _run_with_norms(self) -> Callable[[NDArray[np.uint8]], Both]:
        return self._graph.run_with_norms(self._device)

    def features_with_norms(self, rows: NDArray[np.uint8]) -> Both:
        if self._graph.norms is None:
            return self.features(rows), np.full(len(rows), np.nan)
        return self._run_with_norms(fitted(rows, self._graph.height, self._graph.width))


def open_model(model: str | Path) -> Bundle:
    """A run directory, a bundle file, architecture@weights or the name of a public recognizer (no classes) as a bundle.

    Raises: as `Embedder.load`.
    """
    path = Path(model)
    if path.is_dir() or path.is_file():
        return _of_file(model_file(path))
    text = str(model)
    if (row := face_weights(text)) is not None:
        return _of_public(row)
    if "@" not in text and (path.suffix or path.name != text):
        return bundles.load(path)  # which says that there is no such file
    from facewright.models.weights import open_weights, parse_model

    architecture, which = parse_model(text)
    if which is None:
        raise UsageError(f"{text}: an architecture alone embeds nothing; say {architecture}@WEIGHTS, or a run")
    loaded = open_weights(architecture, which)
    prefix = f"{_classifier_name(architecture, loaded.stem)}."
    weights = {name: tensor for name, tensor in loaded.state.items() if not name.startswith(prefix)}
    origin = {"weights": loaded.title, "sha256": loaded.sha256, "licence": loaded.licence}
    return Bundle(architecture, loaded.stem, (), loaded.spec, weights, origin)


def _of_file(path: Path) -> Bundle:
    """Raises UsageError: the file is a face detector's."""
    try:
        return bundles.load(path)
    except BundleError:
        if (family := detector_family(path)) is not None:
            raise UsageError(f"{path} is a face detector ({family}): give it to --detector") from None
        raise


def _of_public(row: Weights) -> Bundle:
    """A public recognizer by its row; its graph is prepared once and kept beside the file."""
    if row.kind == "detector":
        raise UsageError(f"{row.name} is a face detector: give it to --detector")
    assert row.spec is not None and row.template is not None
    template = parse_template(row.template, row.spec.height)
    if row.of is not None:
        return replace(open_model(row.of), template=template)
    file = file_of(row)
    prepared = file.with_name(f"{row.name}.model.onnx")
    origin = {"weights": row.name, "sha256": row.sha256, "licence": row.licence, "data": row.data}
    if prepared.is_file():
        with suppress(BundleError):  # of another version; it is made again
            bundle = bundles.load(prepared)
            if bundle.provenance == origin and bundle.template == template:
                return bundle
    bundle = imported(file.read_bytes(), row.spec, template, origin)
    bundles.save(prepared, bundle)
    return bundle


def imported(
    content: bytes, spec: InputSpec, template: Template, origin: Mapping[str, Any], output: str | None = None
) -> Bundle:
    """Return the graph of a face recognizer from elsewhere as a model with the template of its crops.

    Args, Raises: as `onnx_import.wrap`.
    """
    graph = wrap(content, spec, output)
    exported = Exported(graph, "float32", {EMBEDDING: graph.digest}, {"imported": dict(origin)})
    return Bundle(IMPORTED, "none", (), spec, {}, dict(origin), exported=exported, template=template)


def similarity(first: ArrayLike, second: ArrayLike) -> float:
    """The cosine of two unit vectors, in [-1, 1], computed in float64 so that it does not depend on their order."""
    return float(similarities(np.asarray(first)[None], np.asarray(second)[None])[0])


def similarities(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """`similarity` of each of P pairs of rows, (P, D) unit vectors each."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.ndim != 2 or a.shape != b.shape:
        raise UsageError(f"expected two times unit vectors (P, D), got {a.shape} and {b.shape}")
    return np.asarray(np.clip((a * b).sum(axis=1), -1.0, 1.0), np.float64)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:  # (B, D) -> (B, D)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > SHORTEST)).all():
        raise DataError("the network's embedding is not finite, or has no direction: its weights are broken")
    return np.asarray(vectors / lengths, np.float64)


def _classifier_name(architecture: str, stem: str) -> str:
    import torch

    from facewright.models.catalog import create_model

    with torch.device("meta"):
        return create_model(architecture, 1, stem=stem).classifier_name
