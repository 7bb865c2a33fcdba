"""A bundle as one ONNX graph: pixels of an image in, scores and a unit vector out; and that graph in int8."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facewright.bundle import Bundle
from facewright.errors import UsageError, require_extra
from facewright.graphs import EMBEDDING, LOGITS, NORM, NORMS, PIXELS, Graph
from facewright.heads import own_head
from facewright.models.blocks import Model

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 20  # of ONNX; ONNX Runtime knows it since 1.17

WEIGHED = ("Conv", "MatMul", "Gemm")  # what has weights; the time goes here
# Between them: in int8 too, so that numbers need not be turned to float32 and back.
BETWEEN = ("Add", "AveragePool", "Clip", "Concat", "GlobalAveragePool", "MaxPool", "Mul", "Relu")


class Exportable(nn.Module):
    """`inference.Classifier` and `embedding.Embedder` as one network.

    Embeddings are scaled to unit length in float32, in PyTorch in float64; the difference is about 1e-7.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.body = cast(Model, bundle.model())
        self.classes = len(bundle.classes)
        self.flip = bundle.spec.flip
        self.order = [2, 1, 0] if bundle.spec.colour_order == "bgr" else [0, 1, 2]
        # The arithmetic of `data.augment.normalise`: one product and one sum, rounded as there.
        mean, std = bundle.spec.mean, bundle.spec.std
        self.register_buffer("scale", torch.tensor([1.0 / (255.0 * std[channel]) for channel in self.order]))
        self.register_buffer("offset", torch.tensor([-mean[channel] / std[channel] for channel in self.order]))

    @property
    def outputs(self) -> list[str]:
        """The names of the outputs of `forward`; the last one stays inside the graph."""
        return [*([LOGITS] if self.classes else []), EMBEDDING, NORMS if self.flip else NORM]

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:  # (B, H, W, 3) uint8 RGB -> (B, C), (B, D), (B or 2 B, 1)
        rows = pixels if self.order == [0, 1, 2] else pixels[..., self.order]
        x = (rows.to(torch.float32) * self.scale + self.offset).permute(0, 3, 1, 2)
        both = torch.cat([x, x.flip(3)]) if self.flip else x  # one pass through the backbone: 2 B images
        features = self.body.forward_features(both)
        head = own_head(self.body)
        embeddings = features if head is None else head.embed(features)
        norms = _norms(embeddings)
        vectors = embeddings / norms
        if self.flip:
            vectors = vectors.reshape(2, -1, vectors.shape[1]).sum(0)
            vectors = vectors / _norms(vectors)
        if not self.classes:
            return vectors, norms
        return self._scores(x, self._upright(features), self._upright(embeddings)), vectors, norms

    def _upright(self, rows: Tensor) -> Tensor:
        """Return the rows of the images, without those of their mirror images."""
        return rows.reshape(2, -1, rows.shape[1])[0] if self.flip else rows

    def _scores(self, x: Tensor, features: Tensor, embeddings: Tensor) -> Tensor:  # -> (B, C)
        head, last = own_head(self.body), self.body.get_submodule(self.body.classifier_name)
        scores: Tensor
        if head is not None:
            scores = head.classify(embeddings)
        elif isinstance(last, nn.Linear):
            scores = last(features)
        else:  # SqueezeNet's own, which reads the map and not its mean
            scores = self.body(x)
        return scores


def _norms(vectors: Tensor) -> Tensor:  # (B, D) -> (B, 1)
    return vectors.square().sum(1, keepdim=True).sqrt()


def to_onnx(bundle: Bundle) -> ModelProto:
    """Convert a bundle to an ONNX graph with a dynamic batch size.

    Equal bundles give equal graphs: they hold no time, no path and no source line.

    Raises:
        UsageError: the exporter does not support the network, or is not installed. BundleError: as `Bundle.model`.
    """
    require_extra("onnx", "export")
    network = Exportable(bundle).eval()
    pixels = torch.zeros(2, bundle.spec.height, bundle.spec.width, 3, dtype=torch.uint8)
    with _quiet():
        try:
            program = torch.onnx.export(
                network,
                (pixels,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[PIXELS],
                output_names=network.outputs,
                dynamic_shapes={"pixels": {0: torch.export.Dim("batch", min=1)}},
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UsageError(f"{bundle.architecture} cannot be written as ONNX ({reason})") from None
    if program is None:
        raise UsageError(f"{bundle.architecture} cannot be written as ONNX")
    return _bare(program.model_proto)


def _bare(model: ModelProto) -> ModelProto:
    """Remove what the exporter adds to the graph: places in source files, guessed shapes; keep the norms inside."""
    graph = model.graph
    del graph.output[-1]  # the norms, for who knows their name
    for holder in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del holder.metadata_props[:]
        holder.ClearField("doc_string")
    # The quantiser would rely on the noted shapes, which are of a batch of 2, and fail.
    del graph.value_info[:]
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's warnings about packages and its own use of PyTorch, and the quantiser's advice."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def to_int8(graph: Graph, batches: Iterable[NDArray[np.uint8]]) -> ModelProto:
    """Return the graph with 8-bit weights and activations, by ONNX Runtime's quantiser.

    Weights are signed, with a scale for each output channel; activations are unsigned, with one scale, measured on the
    calibration images. Of the 8 bits of a weight 7 are used: processors without VNNI add two products in 16 bits; that
    would overflow, and the same file would give other answers there. Preprocessing and the operations after the last
    layer stay float32.

    Args:
        graph: in float32. batches: images (B, H, W, 3) to calibrate on; other ones than it is tested with.
    Raises:
        UsageError: the quantiser cannot do it.
    Source: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference", CVPR 2018 (arXiv:1712.05877), sections 2 and 3, after training.
    """
    import onnx
    from onnxruntime import quantization

    model, feeds = onnx.load_model_from_string(graph.content), ({PIXELS: batch} for batch in batches)
    with tempfile.TemporaryDirectory(prefix="facewright-") as folder, _quiet():
        target = Path(folder) / "int8.onnx"
        try:
            quantization.quantize_static(
                model,
                target,
                SimpleNamespace(get_next=lambda: next(feeds, None)),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=[*WEIGHED, *BETWEEN],
                nodes_to_exclude=_outside(model),
                per_channel=True,
                reduce_range=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
        except Exception as error:  # it raises whatever comes up
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UsageError(f"the network cannot be written in int8 ({reason[:200]}); leave out --quantise") from None
        made = onnx.load_model(target)
    for unused in [one for one in made.opset_import if one.domain not in {node.domain for node in made.graph.node}]:
        made.opset_import.remove(unused)
    del made.graph.value_info[:]
    return made


def _outside(model: ModelProto) -> list[str]:
    """The names of the nodes before the first with weights and after the last."""
    nodes = model.graph.node
    weighed = [index for index, node in enumerate(nodes) if node.op_type in WEIGHED]
    first, last = (weighed[0], weighed[-1]) if weighed else (len(nodes), -1)
    return [node.name for index, node in enumerate(nodes) if index < first or index > last]
