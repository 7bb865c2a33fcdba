"""The graph of a bundle: what it gives is what PyTorch gives, for every family, head, colour order and batch."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facewright.bundle import Bundle, Exported
from facewright.embedding import Embedder
from facewright.errors import UsageError
from facewright.exportation.network import to_onnx
from facewright.graphs import EMBEDDING, LOGITS, plain
from facewright.heads import put_head
from facewright.inference import Classifier
from facewright.input_spec import InputSpec
from facewright.models import catalog
from facewright.specs import HeadSpec

CLASSES = ("ann", "bob", "cid")


def fresh(name: str, head: HeadSpec | None = None, classes: tuple[str, ...] = CLASSES, **changes: Any) -> Bundle:
    """An untrained network whose scores are of a size that trained ones have."""
    side = catalog.describe(name).smallest_side
    spec = replace(InputSpec(side, side, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)), **changes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = catalog.create_model(name, len(classes or CLASSES), input_size=side)
        put_head(model, head, len(classes or CLASSES))
        if head is None:  # norms that saw no data let numbers grow: scores in the hundreds, whose last bits are 1e-4
            with torch.inference_mode():
                size = float(model.eval()(torch.randn(8, 3, spec.height, spec.width)).abs().max())
            catalog.classifier_of(model).weight.data /= max(1.0, size / 10)
    weights = model.state_dict()
    if not classes:
        weights = {key: value for key, value in weights.items() if not key.startswith(f"{model.classifier_name}.")}
    stem = catalog.resolve_stem(name, side)
    return Bundle(name, stem, classes, spec, weights, head=head)


def exported(bundle: Bundle) -> Bundle:
    graph = plain(to_onnx(bundle))
    return replace(bundle, weights={}, exported=Exported(graph, "float32", {EMBEDDING: "e", LOGITS: "l"}, {}))


def pictures(bundle: Bundle, count: int) -> torch.Tensor:
    shape = (count, 3, bundle.spec.height, bundle.spec.width)
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def furthest(bundle: Bundle, count: int = 5) -> tuple[float, float]:
    """The largest difference of probabilities and of unit vectors between PyTorch and ONNX Runtime."""
    other, pixels = exported(bundle), pictures(bundle, count)
    vectors, norms = Embedder(bundle).embed_with_norms(pixels)
    found, lengths = Embedder(other).embed_with_norms(pixels)
    np.testing.assert_array_equal(found, Embedder(other).embed(pixels))
    np.testing.assert_allclose(lengths, norms, rtol=1e-5)
    vectors -= found
    if not bundle.classes:
        return 0.0, float(np.abs(vectors).max())
    chances = Classifier(bundle).probabilities(pixels) - Classifier(other).probabilities(pixels)
    return float(np.abs(chances).max()), float(np.abs(vectors).max())


# What is exported, and why it is not like the others.
KINDS = {
    "all that can be done to pixels": fresh("plain_cnn", colour_order="bgr", flip=True, width=48),
    "a cosine head": fresh("plain_cnn", HeadSpec(kind="cosine", embedding=8, scale=16.0, subcentres=2)),
    "no classes": fresh("plain_cnn", classes=()),  # it embeds only
}
MORE_KINDS = {
    "two layers": fresh("plain_cnn", HeadSpec(kind="two-layer", dropout=0.5)),
    "a sigmoid": fresh("plain_cnn", HeadSpec(kind="sigmoid"), ("no", "yes")),
    "mirrored, no classes": fresh("plain_cnn", classes=(), flip=True),
    "mirrored, a cosine head": fresh("plain_cnn", HeadSpec(kind="cosine", embedding=8, scale=16.0), flip=True),
    "a convolution as classifier": fresh("squeezenet1_1", flip=True),  # SqueezeNet's own reads the map
}


@pytest.mark.parametrize("kind", [*KINDS, *(pytest.param(kind, marks=pytest.mark.slow) for kind in MORE_KINDS)])
def test_onnx_runtime_answers_as_pytorch(kind: str) -> None:
    assert max(furthest((KINDS | MORE_KINDS)[kind])) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted({catalog.describe(name).family for name in catalog.names()}))
def test_every_family_is_exported(family: str) -> None:
    name = next(name for name in catalog.names() if catalog.describe(name).family == family)  # its smallest
    assert max(furthest(fresh(name), count=3)) <= 1e-5


def test_equal_models_are_equal_graphs_of_open_batches_without_a_trace_of_the_machine(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    bundle = fresh("plain_cnn")
    made = to_onnx(bundle)  # warnings are errors in these tests
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    shapes = {
        value.name: [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*made.graph.input, *made.graph.output)
    }
    side, width = bundle.spec.height, Embedder(bundle).width
    assert shapes == {"pixels": ["batch", side, side, 3], "logits": ["batch", 3], "embedding": ["batch", width]}
    one, other = (model.SerializeToString(deterministic=True) for model in (made, to_onnx(bundle)))
    assert one == other
    for trace in (str(Path(__file__).parents[2]), "/facewright/", "site-packages", sys.prefix):
        assert trace.encode() not in one


@pytest.mark.parametrize("absent", ["onnxscript", "torch"])
def test_a_missing_package_is_named(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facewright.errors.find_spec", lambda name: None if name == absent else name)
    with pytest.raises(UsageError, match=rf"{absent}, .*facewright\[onnx\]"):
        to_onnx(fresh("resnet18"))
