"""ONNX files as data: what is read, what is refused before anything runs, and what a run gives."""

from __future__ import annotations

import json
import pickle
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from facewright import bundle as bundles
from facewright import graphs
from facewright.embedding import Embedder
from facewright.errors import BundleError, FacewrightError, UsageError
from facewright.graphs import EMBEDDING, LOGITS, NORM, as_rows
from facewright.inference import Classifier
from fixtures.plain_graph import CLASSES, FINGERPRINTS, SPEC, exported_bundle, model, parsed, saved


def pixels(count: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 3, 4, 5), dtype=np.uint8))


def test_a_graph_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    found = bundles.load(saved(tmp_path / "m.onnx"))
    assert found.exported is not None
    assert (found.classes, found.spec, found.weights, found.provenance) == (CLASSES, SPEC, {}, {"seed": 0})
    assert (found.exported.fingerprints, found.exported.checked) == (FINGERPRINTS, {"data": "by hand"})
    assert dict(found.exported.graph.outputs) == {LOGITS: 2, EMBEDDING: 3}
    bundles.save(tmp_path / "again.onnx", found)
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "m.onnx").read_bytes()


def test_the_two_classes_run_it_on_batches_of_any_size(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx")
    classifier, embedder = Classifier.load(path), Embedder.load(path)
    assert (classifier.fingerprint, embedder.fingerprint) == (FINGERPRINTS[LOGITS], FINGERPRINTS[EMBEDDING])
    assert embedder.width == 3
    for count in (0, 1, 2, 70):
        mean = pixels(count).double().mean((2, 3)).numpy()
        np.testing.assert_allclose(classifier.logits(pixels(count)), 2 * mean[:, :2], rtol=1e-6)
        unit = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        np.testing.assert_allclose(embedder.embed(pixels(count)), unit, atol=1e-6)


@pytest.mark.parametrize("batch", [None, 1])
def test_norms_are_those_of_the_tensor_inside_that_is_named_so(batch: int | None) -> None:
    mean = pixels(3).double().mean((2, 3)).numpy()
    graph = replace(graphs.plain(named("length")), batch=batch)
    vectors, norms = graph.run_with_norms()(as_rows(pixels(3)))
    np.testing.assert_allclose(norms, np.linalg.norm(mean, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(vectors, graph.run(EMBEDDING)(as_rows(pixels(3))))
    with pytest.raises(BundleError, match="norms"):  # three for an image
        graphs.plain(named("mean")).run_with_norms()(as_rows(pixels(3)))


def named(tensor: str) -> Any:
    """The graph, with a tensor inside that is called as the norms are."""
    made = model()
    for node in made.graph.node:
        for names in (node.input, node.output):
            names[:] = [NORM if name == tensor else name for name in names]
    return made


def test_idle_threads_sleep(tmp_path: Path) -> None:
    options = graphs.Session(saved(tmp_path / "model.onnx").read_bytes())._session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_cudas_libraries_are_loaded_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    content, loaded = saved(tmp_path / "model.onnx").read_bytes(), []
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: loaded.append(print("Failed to load libcublas")))
    graphs.Session(content, "cpu")
    assert not loaded
    graphs.Session(content, "cuda")
    assert len(loaded) == 1 and not capsys.readouterr().out


def test_the_file_runs_in_onnx_runtime_alone(tmp_path: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(saved(tmp_path / "m.onnx"))
    logits, embedding = session.run(None, {"pixels": np.full((1, 4, 5, 3), 7, np.uint8)})
    assert logits.tolist() == [[14, 14]]
    np.testing.assert_allclose(embedding, [[3**-0.5] * 3], rtol=1e-6)
    facts = json.loads(session.get_modelmeta().custom_metadata_map["facewright"])
    assert facts["bundle"]["classes"] == list(CLASSES)


def test_a_picture_without_direction_has_no_embedding(tmp_path: Path) -> None:
    with pytest.raises(FacewrightError, match="not finite, or has no direction"):
        Embedder.load(saved(tmp_path / "m.onnx")).embed(torch.zeros(1, 3, 4, 5, dtype=torch.uint8))


def _renamed(made: Any) -> None:
    made.graph.input[0].name = made.graph.node[0].input[0] = "photos"


def _floats(made: Any) -> None:
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def _open_size(made: Any) -> None:
    made.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "height"


def _grey(made: Any) -> None:
    made.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 1


def _other_output(made: Any) -> None:
    made.graph.output[0].name = made.graph.node[2].output[0] = "scores"


def _outside(made: Any) -> None:
    weight = made.graph.initializer[2]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="/etc/passwd")


def _outside_but_unsaid(made: Any) -> None:
    made.graph.initializer[2].external_data.add(key="location", value="*/_ORT_MEM_ADDR_/*")


def _constant_outside(made: Any) -> None:
    made.graph.node[0].attribute.append(helper.make_attribute("value", helper.make_tensor("t", 1, [1], [0.0])))
    made.graph.node[0].attribute[-1].t.external_data.add(key="location", value="x")


def _loop(made: Any) -> None:
    made.graph.node[0].op_type = "Loop"
    made.graph.node[0].attribute.append(helper.make_attribute("body", helper.make_graph([], "inside", [], [])))


def _inside(made: Any) -> None:
    made.graph.node[0].attribute.append(helper.make_attribute("body", helper.make_graph([], "inside", [], [])))


def _custom(made: Any) -> None:
    made.graph.node[0].domain = "com.evil"


def _custom_set(made: Any) -> None:
    made.opset_import.append(helper.make_opsetid("com.evil", 1))


def _function(made: Any) -> None:
    made.functions.add(name="f", domain="")


def _sparse(made: Any) -> None:
    made.graph.sparse_initializer.add()


# What is done to the graph -> what is said of it.
FOREIGN: dict[str, tuple[Callable[[Any], None], str]] = {
    "another input": (_renamed, "expected one input, pixels"),
    "numbers in place of bytes": (_floats, "uint8"),
    "pictures of any size": (_open_size, "another shape"),
    "grey pictures": (_grey, "another shape"),
    "another output": (_other_output, "expected outputs logits"),
    "weights in another file": (_outside, "outside the file"),
    "weights at an address in memory": (_outside_but_unsaid, "outside the file"),
    "a constant in another file": (_constant_outside, "outside the file"),
    "a loop": (_loop, "operator '' 'Loop'"),
    "a graph in a graph": (_inside, "a graph inside operator 'Cast'"),
    "an operator of somebody's": (_custom, "operator 'com.evil' 'Cast'"),
    "a set of operators of somebody's": (_custom_set, "operators of 'com.evil'"),
    "functions": (_function, "functions of its own"),
    "sparse weights": (_sparse, "sparse weights"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_graph_that_is_not_plain_is_refused_unrun(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change, words = FOREIGN[name]
    made = parsed(saved(tmp_path / "m.onnx"))
    change(made)
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    monkeypatch.setattr(graphs, "Session", lambda *_: pytest.fail("it was run"))
    for load in (Classifier.load, Embedder.load):
        with pytest.raises(BundleError, match=words) as refused:
            load(tmp_path / "m.onnx")
        assert "m.onnx" in str(refused.value) and "\n" not in str(refused.value)


def _metadata(path: Path, **changes: object) -> None:
    made = parsed(path)
    facts = json.loads(made.metadata_props[0].value)
    made.metadata_props[0].value = json.dumps(facts | changes)
    path.write_bytes(made.SerializeToString())


def _bundle_metadata(path: Path, **changes: object) -> None:
    facts = json.loads(parsed(path).metadata_props[0].value)["bundle"]
    _metadata(path, bundle=facts | changes)


# What the file says of itself -> what is refused.
LIES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a graph that was changed": (lambda path: _metadata(path, graph="0" * 32), "something changed it"),
    "half precision": (lambda path: _metadata(path, precision="float16"), "precision"),
    "a fingerprint too few": (
        lambda path: _metadata(path, fingerprints={EMBEDDING: "2"}),
        "expected the outputs",
    ),
    "a key too many": (lambda path: _metadata(path, code="import os"), "code"),
    "no bundle": (lambda path: _metadata(path, bundle=None), "bundle"),
    "a class too many": (lambda path: _bundle_metadata(path, classes=["a", "b", "c"]), "3 classes"),
    "no classes": (lambda path: _bundle_metadata(path, classes=[]), "expected the outputs embedding"),
    "another size": (lambda path: _bundle_metadata(path, input=SPEC.to_dict() | {"height": 8}), "another size"),
    "a size that is none": (lambda path: _bundle_metadata(path, input=SPEC.to_dict() | {"height": 0}), "not usable"),
    "another format": (lambda path: _bundle_metadata(path, format=2), "bundle format 2"),
    "a head that is none": (lambda path: _bundle_metadata(path, head={"kind": "os.system"}), "head is not usable"),
}


@pytest.mark.parametrize("name", LIES)
def test_metadata_that_lies(name: str, tmp_path: Path) -> None:
    change, words = LIES[name]
    change(saved(tmp_path / "m.onnx"))
    with pytest.raises(BundleError, match=words):
        bundles.load(tmp_path / "m.onnx")


def test_a_weight_that_was_changed_is_another_model(tmp_path: Path) -> None:
    made = parsed(saved(tmp_path / "m.onnx"))
    made.graph.initializer[2].raw_data = np.array([[2, 0], [0, 2], [0, 1]], np.float32).tobytes()
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(BundleError, match="something changed it"):
        bundles.load(tmp_path / "m.onnx")


# What lies in the file -> what is said of it.
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"no protobuf at all", "not an ONNX file"),
        (pickle.dumps({"weights": 1}), "not an ONNX file"),
        (b"PK\x03\x04" + bytes(60), "not an ONNX file"),
        (model().SerializeToString(), "not a file of `facewright export`"),  # ONNX, but nobody knows of what
    ],
)
def test_what_is_no_exported_model(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=words):
        bundles.load(tmp_path / "m.onnx")


def test_a_file_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "m.onnx").open("wb") as file:
        file.truncate(graphs.MOST_BYTES + 1)  # a hole: it takes no space
    with pytest.raises(BundleError, match=r"2,147,483,648 bytes; the limit is 2,147,483,647"):
        bundles.load(tmp_path / "m.onnx")


def test_a_graph_that_contradicts_itself_is_said_in_one_line() -> None:
    made = model()
    made.graph.node[2].input[1] = "nowhere"
    with pytest.raises(BundleError, match="ONNX Runtime does not take the graph"):
        Classifier(exported_bundle(made))
    made = model()
    made.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
    found = plain_run(made, LOGITS)
    with pytest.raises(BundleError, match="says that logits is 1 x 3"):
        found(np.zeros((1, 4, 5, 3), np.uint8))


def plain_run(made: Any, output: str) -> graphs.Run:
    return graphs.plain(made).run(output)


def test_mutations_end_in_an_error_or_a_model(tmp_path: Path) -> None:
    chance, path = random.Random(0), tmp_path / "m.onnx"
    whole, refused = saved(path).read_bytes(), 0
    for _ in range(600):
        mutant = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            mutant[chance.randrange(len(mutant))] = chance.randrange(256)
        path.write_bytes(mutant[: chance.randint(1, len(mutant))] if chance.random() < 0.3 else mutant)
        try:
            bundles.load(path)
        except FacewrightError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 500


def test_a_graph_and_weights_keep_their_suffixes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"an exported graph; call its file NAME\.onnx"):
        bundles.save(tmp_path / "m.safetensors", exported_bundle())
    with pytest.raises(UsageError, match=r"PyTorch weights; call its file NAME\.safetensors"):
        bundles.save(tmp_path / "m.onnx", bundles.Bundle("patchnet", "imagenet", (), SPEC, {}))
    assert list(tmp_path.iterdir()) == []


def test_another_input_than_the_graph_was_made_for_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx")
    assert Embedder.load(path, crop=1.0, flip=False).spec == SPEC
    for changed in ({"crop": 0.5}, {"flip": True}):
        with pytest.raises(UsageError, match="keeps the crop of 1 and the flip of False"):
            Embedder.load(path, **changed)  # type: ignore[arg-type]


def test_there_is_no_pytorch_network_inside(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="holds no PyTorch network"):
        Classifier.load(saved(tmp_path / "m.onnx")).model  # noqa: B018


@pytest.mark.parametrize(("absent", "words"), [("onnx", "the onnx package"), ("onnxruntime", "ONNX Runtime")])
def test_a_missing_package_is_one_line(
    absent: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, absent, None)  # which an import then takes for missing
    with pytest.raises(UsageError, match=words) as refused:
        Classifier.load(path)
    assert f"pip install {absent}" in str(refused.value)
