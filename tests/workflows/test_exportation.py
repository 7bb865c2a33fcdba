"""`facewright export` from end to end: what is written, what is refused, and that the commands take the file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image

from facewright import bundle as bundles
from facewright import calibrate, evaluate, pairs, predict, verify
from facewright.bundle import Bundle
from facewright.cli.main import main
from facewright.data.synthetic import FacesSpec
from facewright.embedding import Embedder
from facewright.errors import DataError, ExportDrift, OtherModel, UnknownName, UsageError
from facewright.exportation.network import to_onnx
from facewright.gallery.gallery import Gallery, Photo
from facewright.graphs import EMBEDDING, LOGITS
from facewright.heads import put_head
from facewright.inference import Classifier
from facewright.metrics.binary import choose_class_threshold
from facewright.metrics.thresholds import VERIFICATION, thresholds_for
from facewright.models.catalog import create_model
from facewright.specs import HeadSpec
from facewright.workflows import exportation as workflow
from facewright.workflows.explanation import explain
from facewright.workflows.exportation import destination, export
from fixtures.faces import SPEC, draw_people, write_pairs

PEOPLE = 4
CLASSES = tuple(f"person_{number:02d}" for number in range(PEOPLE))
DATA = Path(__file__).parents[2] / "../shared"


GRAPHS: dict[tuple[str, str], bytes] = {}  # PyTorch's exporter takes seconds


def graph_of(bundle: Bundle) -> Any:
    """As `to_onnx`, once for each network."""
    key = (bundles.fingerprint(bundle, bundle.weights), repr(bundle.spec))
    if key not in GRAPHS:
        GRAPHS[key] = to_onnx(bundle).SerializeToString()
    return onnx.load_model_from_string(GRAPHS[key])


def hasten(patched: pytest.MonkeyPatch) -> None:
    """Sixty faces in place of a thousand, and each network written once."""
    patched.setattr(workflow, "FEWEST", 60)
    patched.setattr(workflow, "DRAWN", FacesSpec(identities=6, images=10, seed=29))
    patched.setattr(workflow, "to_onnx", graph_of)


@pytest.fixture(autouse=True)
def hastened(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)


def small(classes: tuple[str, ...] = CLASSES) -> Bundle:
    """An untrained network of three convolutions."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = create_model("plain_cnn", len(classes), input_size=SPEC.height)
        put_head(model, HeadSpec(kind="linear", embedding=16), len(classes))
    head = HeadSpec(kind="linear", embedding=16)
    return Bundle("plain_cnn", "imagenet", classes, SPEC, model.state_dict(), {"seed": 0}, (), head)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.safetensors, its model.onnx, photos/ of its classes and pairs.csv of them."""
    folder = tmp_path_factory.mktemp("export")
    bundles.save(folder / "plain.safetensors", small())
    draw_people(folder / "photos", PEOPLE, 6)
    draw_people(folder / "others", 3, 6, seed=5)
    write_pairs(folder / "pairs.csv", PEOPLE, 6, impostors=80)
    target = folder / "model.safetensors"
    calibrate(folder / "plain.safetensors", folder / "pairs.csv", folder / "photos", 0.1, out=target)
    with pytest.MonkeyPatch.context() as patched:
        hasten(patched)
        export(target)
    return folder


def test_an_exported_model_is_the_model(place: Path) -> None:
    ours, theirs = bundles.load(place / "model.safetensors"), bundles.load(place / "model.onnx")
    assert theirs.exported is not None
    assert replace(theirs, exported=None) == replace(ours, weights={})
    assert theirs.exported.checked["agreement"]["pictures"] == 60
    assert Embedder(theirs).fingerprint == Embedder(ours).fingerprint
    assert Classifier(theirs).fingerprint == Classifier(ours).fingerprint
    for load in (Classifier.load, Embedder.load):
        assert load(place / "model.onnx").fingerprint == load(place / "model.safetensors").fingerprint


def test_what_it_was_compared_on_is_told(place: Path, tmp_path: Path) -> None:
    found = export(place / "model.safetensors", tmp_path / "m.onnx", check=place / "photos")
    assert found.data == f"{PEOPLE * 6} images of photos and {60 - PEOPLE * 6} synthetic faces"
    assert found.agreement.pictures == 60
    # the class and, at its one stored threshold, every pair
    assert found.agreement.decisions == 60 + 60 * 59 // 2
    assert found.agreement.changed == 0
    facts = json.loads(json.dumps(found.to_dict()))
    assert facts["agreement"]["tolerance"] == 1e-5 and facts["outputs"] == {"logits": PEOPLE, "embedding": 16}
    assert (facts["thresholds"], facts["dropped"], facts["quantised"]) == (1, 0, None)
    assert found.size == (tmp_path / "m.onnx").stat().st_size


def _brighter(model: Any) -> None:
    """The mean is another one."""
    offset = next(t for t in model.graph.initializer if t.name == "offset")
    offset.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(offset) + np.float32(0.01), "offset"))


def _blue_first(model: Any) -> None:
    """The scale of red is that of blue, and the other way round."""
    scale = next(t for t in model.graph.initializer if t.name == "scale")
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale)[::-1] * np.float32([1, 1, 1.001]), "scale"))


def _half(model: Any) -> None:
    """Weights of half precision."""
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float16).astype(np.float32), tensor.name))


def _one_weight(model: Any) -> None:
    """One number of the last layer."""
    tensor = next(t for t in model.graph.initializer if list(t.dims) == [PEOPLE, 16])
    value = numpy_helper.to_array(tensor).copy()
    value[0, 0] += 0.01
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


@pytest.mark.parametrize("mutant", [_brighter, _blue_first, _half, _one_weight])
def test_a_graph_that_drifts_is_not_written(
    mutant: Callable[[Any], None], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mutated(bundle: Bundle) -> Any:
        model = graph_of(bundle)
        mutant(model)
        return model

    monkeypatch.setattr(workflow, "to_onnx", mutated)
    (tmp_path / "m.onnx").write_bytes(b"what was there")
    with pytest.raises(ExportDrift, match=r"the ONNX graph differs in .* by up to .*\(at most 1e-05") as refused:
        export(place / "model.safetensors", tmp_path / "m.onnx")
    assert "over 60 images" in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert (tmp_path / "m.onnx").read_bytes() == b"what was there"


@pytest.mark.parametrize(
    ("model", "options", "error", "words"),
    [
        ("model.onnx", {}, UsageError, "is exported already"),
        ("model.safetensors", {"out": "m.pt"}, UsageError, r"ends in \.onnx"),
        ("model.safetensors", {"out": "nowhere/m.onnx"}, UsageError, "in a folder that exists"),
        ("model.safetensors", {"quantise": "int4"}, UnknownName, "did you mean 'int8'"),
        ("model.safetensors", {"quantise": "int8"}, UsageError, "--calibration DATA and --check"),
        ("model.safetensors", {"quantise": "int8", "check": "photos"}, UsageError, "--calibration DATA and --check"),
        ("model.safetensors", {"calibration": "photos"}, UsageError, "add --quantise int8"),
        # what it is measured on is what it was tuned on
        (
            "model.safetensors",
            {"quantise": "int8", "calibration": "photos", "check": "photos"},
            DataError,
            "24 of its ",
        ),
        # nobody knows who is on them
        (
            "model.safetensors",
            {"quantise": "int8", "calibration": "photos", "check": "others/person_00"},
            DataError,
            "person_00",
        ),
        ("plain_cnn", {}, UsageError, "say plain_cnn@WEIGHTS"),
    ],
)
def test_what_makes_no_sense_is_refused(
    model: str,
    options: dict[str, str],
    error: type[Exception],
    words: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    before = sorted(path.name for path in place.iterdir())
    given: dict[str, Any] = {name: Path(value) if name == "out" else value for name, value in options.items()}
    given.setdefault("out", Path("never.onnx"))
    with pytest.raises(error, match=words):
        export(model, **given)
    assert sorted(path.name for path in place.iterdir()) == before


def test_the_file_lies_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "faces.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    assert destination(tmp_path / "run", None) == tmp_path / "run" / "model.onnx"
    assert destination(tmp_path / "faces.safetensors", None) == tmp_path / "faces.onnx"
    assert destination("mobilefacenet@faces.safetensors", None) == Path("mobilefacenet.onnx")


@pytest.fixture(scope="module")
def in_int8(place: Path) -> Any:
    """The model in int8, as small.onnx."""
    with pytest.MonkeyPatch.context() as patched:
        hasten(patched)
        options = {"quantise": "int8", "calibration": place / "others", "check": place / "photos"}
        return export(place / "model.safetensors", place / "small.onnx", **options)


def test_int8_is_another_model_that_says_what_it_costs(place: Path, in_int8: Any) -> None:
    found = bundles.load(place / "small.onnx")
    assert found.exported is not None
    assert found.exported.precision == in_int8.precision == "int8"
    assert (in_int8.thresholds, in_int8.dropped, found.thresholds) == (0, 1, ())
    cost = in_int8.quantised.cost
    assert (cost.question, cost.float32.n, cost.int8.n) == ("class", PEOPLE * 6, PEOPLE * 6)
    assert cost.float32 == evaluate(place / "model.safetensors", str(place / "photos")).accuracy
    assert cost.int8 == evaluate(place / "small.onnx", str(place / "photos")).accuracy
    assert cost.won - cost.lost == round((cost.int8.value - cost.float32.value) * PEOPLE * 6)
    assert in_int8.quantised.pictures == 18
    assert in_int8.size < in_int8.quantised.float32_bytes
    kinds = {node.op_type for node in onnx.load_model(place / "small.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert in_int8.fingerprints[EMBEDDING] not in bundles.load(place / "model.onnx").exported.fingerprints.values()  # type: ignore[union-attr]
    assert Classifier(found).fingerprint == in_int8.fingerprints[LOGITS]


def test_norms_survive_int8(place: Path, in_int8: Any) -> None:
    pixels = np.stack([np.asarray(Image.open(photo).convert("RGB")) for photo in sorted(place.glob("photos/*/*.png"))])
    vectors, norms = Embedder(bundles.load(place / "small.onnx")).embed_with_norms(pixels)
    expected = Embedder(bundles.load(place / "model.onnx")).embed_with_norms(pixels)
    np.testing.assert_allclose(norms, expected[1], rtol=0.1)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert np.sum(vectors * expected[0], axis=1).min() > 0.95


def test_a_gallery_takes_the_exported_model_and_not_the_int8_one(place: Path, tmp_path: Path, in_int8: Any) -> None:
    photo = place / "photos" / "person_00" / "0.png"
    with Gallery.open(tmp_path / "g", place / "model.safetensors") as gallery:
        gallery.enroll([Photo.of(photo, "ann")])
    with Gallery.open(tmp_path / "g", place / "model.onnx") as gallery:
        assert gallery.search([Photo.of(photo)])[0].matches[0].person == "ann"
    with pytest.raises(OtherModel):
        Gallery.open(tmp_path / "g", place / "small.onnx")


def test_thresholds_between_two_classes_go_with_float32_alone(place: Path, tmp_path: Path) -> None:
    draws = np.random.default_rng(0).random((2, 20))
    line = choose_class_threshold(draws[0], draws[1], "eer", ("person_00", "person_01"), "drawn")
    two = replace(small(CLASSES[:2]), thresholds=(line,))
    bundles.save(tmp_path / "two.safetensors", two)
    assert Classifier.load(workflow_path(export(tmp_path / "two.safetensors"))).threshold == line
    options = {"quantise": "int8", "calibration": place / "others", "check": place / "photos"}
    said: list[Any] = []
    made = export(tmp_path / "two.safetensors", tmp_path / "small.onnx", **options, on_event=said.append)
    assert Classifier.load(workflow_path(made)).threshold is None
    assert made.quantised is not None and made.quantised.cost.question == "nearest"  # four people, two classes
    assert "thresholds left out: 1" in "".join(getattr(event, "text", "") for event in said)


def workflow_path(made: Any) -> Path:
    return Path(made.path)


def test_every_job_takes_the_file(place: Path, tmp_path: Path) -> None:
    photo, other = (place / "photos" / f"person_0{who}" / "0.png" for who in (0, 1))
    ours, theirs = (predict(place / name, [photo])[0] for name in ("model.safetensors", "model.onnx"))
    assert ours.names == theirs.names
    np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-5)
    one, two = (verify(photo, other, model=place / name) for name in ("model.safetensors", "model.onnx"))
    assert (one.same, one.threshold, one.fingerprint) == (two.same, two.threshold, two.fingerprint)
    assert one.score == pytest.approx(two.score, abs=1e-5)
    measured = [
        pairs(place / name, place / "pairs.csv", place / "photos") for name in ("model.safetensors", "model.onnx")
    ]
    assert measured[0].at_threshold == measured[1].at_threshold
    with pytest.raises(UsageError, match="has no test part"):
        evaluate(place / "model.onnx")


def test_a_threshold_can_be_stored_in_the_file(place: Path, tmp_path: Path) -> None:
    target = tmp_path / "own.onnx"
    made = calibrate(place / "model.onnx", place / "pairs.csv", place / "photos", 0.2, out=target)
    found = bundles.load(target)
    held = thresholds_for(found.thresholds, VERIFICATION, Embedder(found).fingerprint)
    assert [one.far_target for one in held] == [0.1, 0.2]
    assert made.threshold == held[1]
    with pytest.raises(UsageError, match=r"of the same kind; call it NAME\.onnx"):
        calibrate(place / "model.onnx", place / "pairs.csv", place / "photos", 0.2, out=tmp_path / "x.safetensors")


def test_what_looks_inside_the_network_says_that_it_cannot(place: Path) -> None:
    with pytest.raises(Exception, match="holds no PyTorch network") as refused:
        explain(place / "model.onnx", [place / "photos" / "person_00" / "0.png"])
    assert "\n" not in str(refused.value)


def test_the_command_line(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    out = str(tmp_path / "m.onnx")
    assert main(["export", "model.safetensors", "--to", "onnx", "--out", out, "--quiet", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["task"], facts["path"], facts["precision"]) == ("export", out, "float32")
    assert main(["export", "model.safetensors", "--out", out, "--flip", "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "on 60 synthetic faces" in shown
    assert "decisions changed: 0 of" in shown and "pixels (B, 40, 40, 3) uint8 -> logits (B, 4)" in shown
    assert bundles.load(Path(out)).spec.flip
    int8 = ["--quantise", "int8", "--calibration", "others", "--check", "photos"]
    assert main(["export", "model.safetensors", "--out", out, "--quiet", *int8]) == 0
    said = capsys.readouterr()
    assert re.search(r"float32 \S+ % \(.*n=24\), int8 \S+ % \(.*n=24\)", said.out)
    assert "p = " in said.out and "AUC" in said.out
    for command in (
        ["predict", out, "photos/person_00/0.png", "--quiet"],
        ["pairs", out, "pairs.csv", "--images", "photos", "--quiet"],
        ["embed", out, "photos", "--out", str(tmp_path / "v.parquet"), "--quiet"],
        ["evaluate", out, "photos", "--quiet"],
        ["evaluate", out, "others", "--quiet"],  # people it does not know: told apart
        ["gallery", "enroll", "-g", str(tmp_path / "g"), "ann", "photos/person_00/0.png", "--model", out],
    ):
        assert main(command) == 0, command
    assert main(["explain", out, "photos/person_00/0.png", "--out", str(tmp_path / "why")]) == 1
    assert capsys.readouterr().err.count("error: ") == 1
    Image.new("RGB", (8, 8)).save(tmp_path / "bad.onnx", "PNG")
    assert main(["predict", str(tmp_path / "bad.onnx"), "photos"]) == 1
    assert re.fullmatch(r"error: .*bad\.onnx: an image; .*\n", capsys.readouterr().err)


@pytest.mark.realdata
@pytest.mark.slow
def test_public_weights_agree_on_a_thousand_real_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, faces = DATA / "weights/mobilefacenet_arcface.safetensors", DATA / "data/celebrities12"
    if not (weights.is_file() and faces.is_dir()):
        pytest.skip("needs ../shared/weights and ../shared/data/celebrities12")
    monkeypatch.setattr(workflow, "FEWEST", 1_000)
    found = export(f"mobilefacenet@{weights}", tmp_path / "m.onnx", check=faces).agreement
    assert found.pictures >= 1_000
    assert max(found.vectors, found.cosines) <= 1e-5
    assert found.decisions > 500_000 and found.changed == 0
