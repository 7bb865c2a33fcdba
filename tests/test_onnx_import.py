"""ONNX recognisers as they come: layouts, kinds of numbers, batches, outputs; and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from PIL import Image

from facewright import bundle as bundles
from facewright.data.pairs import pairs_among
from facewright.data.sources import open_dataset
from facewright.embedding import Embedder, imported
from facewright.errors import FacewrightError
from facewright.faces import quality
from facewright.faces.alignment import ARCFACE, ARCFACE_CORNERS, FFHQ, NAMED, for_corners, parse_template
from facewright.graphs import EMBEDDING
from facewright.input_spec import InputSpec
from facewright.onnx_import import wrap
from facewright.recognition import Recognizer
from facewright.workflows import model_import
from facewright.workflows.model_import import import_model
from fixtures.plain_recognizer import SIDE, recognizer

SPEC = InputSpec(SIDE, SIDE, (0.5, 0.4, 0.3), (0.5, 0.25, 0.2), "rgb", "stretch")


def wanted(images: np.ndarray, spec: InputSpec, uint8: bool = False) -> np.ndarray:
    weight = np.random.default_rng(0).normal(size=(3 * SIDE * SIDE, 6)).astype(np.float32)

    def unit(rows: np.ndarray) -> np.ndarray:
        fed = rows.astype(np.float64) if uint8 else (rows / 255 - np.array(spec.mean)) / np.array(spec.std)
        fed = fed[..., ::-1] if spec.colour_order == "bgr" else fed
        vectors = fed.reshape(len(rows), -1) @ weight
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    return normalised(unit(images) + unit(images[:, :, ::-1])) if spec.flip else unit(images)


def normalised(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


IMAGES = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("batch", ["B", 1, 4])
@pytest.mark.parametrize("flip", [False, True])
def test_a_wrapped_graph_gives_unit_vectors_of_prepared_images(last: bool, batch: Any, flip: bool) -> None:
    for colour in ("rgb", "bgr"):
        spec = InputSpec(SIDE, SIDE, SPEC.mean, SPEC.std, colour, "stretch", flip=flip)  # type: ignore[arg-type]
        graph = wrap(recognizer(last=last, batch=batch).SerializeToString(), spec)
        np.testing.assert_allclose(graph.run(EMBEDDING)(IMAGES), wanted(IMAGES, spec), atol=1e-5)


@pytest.mark.parametrize("batch", ["B", 1])
@pytest.mark.parametrize("flip", [False, True])
def test_norms_are_of_the_vectors_before_they_are_scaled(batch: Any, flip: bool) -> None:
    spec = InputSpec(SIDE, SIDE, SPEC.mean, SPEC.std, "rgb", "stretch", flip=flip)
    embedder = Embedder(
        imported(recognizer(batch=batch).SerializeToString(), spec, parse_template("arcface", SIDE), {})
    )
    vectors, norms = embedder.embed_with_norms(IMAGES)
    weight = np.random.default_rng(0).normal(size=(3 * SIDE * SIDE, 6)).astype(np.float32)
    plain = ((IMAGES / 255 - np.array(spec.mean)) / np.array(spec.std)).reshape(3, -1) @ weight
    np.testing.assert_allclose(norms, np.linalg.norm(plain, axis=1), rtol=1e-5)
    np.testing.assert_array_equal(vectors, embedder.embed(IMAGES))


def test_a_graph_of_uint8_is_fed_pixels_as_they_are() -> None:
    graph = wrap(recognizer(uint8=True).SerializeToString(), SPEC)
    np.testing.assert_allclose(graph.run(EMBEDDING)(IMAGES), wanted(IMAGES, SPEC, uint8=True), atol=1e-5)


def test_an_output_is_chosen_by_name() -> None:
    content = recognizer(outputs=2).SerializeToString()
    with pytest.raises(FacewrightError, match="--output"):
        wrap(content, SPEC)
    assert wrap(content, SPEC, "others").outputs == {EMBEDDING: 6}
    with pytest.raises(FacewrightError, match="absent"):
        wrap(content, SPEC, "absent")


def with_loop(model: Any) -> None:
    model.graph.node[0].op_type = "Loop"


def of_its_own(model: Any) -> None:
    model.graph.node[0].domain = "com.example"


def outside(model: Any) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    model.graph.initializer[0].external_data.add(key="location", value="weights.bin")


def huge(model: Any) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 10**9


def detector(model: Any) -> None:
    model.graph.node[-2].op_type, model.graph.node[-2].output[0] = "Identity", "vectors"
    del model.graph.node[-2].input[1]
    model.graph.node[-2].input[0] = "f"


@pytest.mark.parametrize("change", [with_loop, of_its_own, outside, huge, detector])
def test_a_graph_that_is_no_plain_recogniser_is_refused(change: Callable[[Any], None]) -> None:
    model = recognizer()
    change(model)
    with pytest.raises(FacewrightError):
        wrap(model.SerializeToString(), SPEC)


def test_another_size_is_refused() -> None:
    with pytest.raises(FacewrightError, match="16"):
        wrap(recognizer().SerializeToString(), InputSpec(16, 16, SPEC.mean, SPEC.std))


def test_an_imported_model_is_one_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "theirs.onnx").write_bytes(recognizer().SerializeToString())
    told: dict[str, Any] = {"size": SIDE, "mean": (127.5,) * 3, "std": (128.0,) * 3, "colour": "bgr", "licence": "MIT"}
    made = import_model(tmp_path / "theirs.onnx", tmp_path / "ours.onnx", template="ffhq", **told)
    bundle = bundles.load(tmp_path / "ours.onnx")
    assert bundle.template == parse_template("ffhq", SIDE) and bundle.provenance["licence"] == "MIT"
    assert made.fingerprint == Embedder(bundle).fingerprint and made.trials == ()
    assert Embedder(bundle).embed(IMAGES).shape == (3, 6)
    other = import_model(tmp_path / "theirs.onnx", tmp_path / "arcface.onnx", template="arcface", **told)
    of = [Recognizer.load(tmp_path / name, detector="dlib").fingerprint for name in ("ours.onnx", "arcface.onnx")]
    assert other.fingerprint == made.fingerprint and of[0] != of[1]  # the template is part of what makes a vector


def test_without_a_preprocessing_pairs_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "theirs.onnx").write_bytes(recognizer().SerializeToString())
    with pytest.raises(FacewrightError, match="--pairs"):
        import_model(tmp_path / "theirs.onnx", tmp_path / "ours.onnx", size=SIDE)


def test_colour_scaling_and_mirror_image_are_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network sums its input with weights that a mirror image meets as well; a wrong order of colours does not."""
    rng = np.random.default_rng(5)
    people = [rng.integers(0, 256, (SIDE, SIDE, 3)) for _ in range(30)]
    rows = ["a,b,same"]
    for index, face in enumerate(people):
        for number in (0, 1):
            pixels = np.clip(face + rng.normal(0, 40, face.shape) * (1, 1, 4), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(tmp_path / f"{index}-{number}.png")
        rows += [f"{index}-0.png,{index}-1.png,1", f"{index}-0.png,{(index + 1) % 30}-1.png,0"]
    (tmp_path / "pairs.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "theirs.onnx").write_bytes(recognizer().SerializeToString())
    told: dict[str, Any] = {"size": SIDE, "pairs": tmp_path / "pairs.csv", "detector": "none"}
    monkeypatch.setattr(model_import, "SURE", 0.0)  # this network knows no faces
    made = import_model(tmp_path / "theirs.onnx", tmp_path / "ours.onnx", **told)
    assert len(made.trials) == 16 and sum(trial.chosen for trial in made.trials) == 1 and made.images == 60
    assert [trial.separation for trial in made.trials] == sorted((t.separation for t in made.trials), reverse=True)
    chosen = next(trial for trial in made.trials if trial.chosen)
    assert made.norm is None  # 30 genuine pairs are too few
    monkeypatch.setattr(quality, "FEWEST_PAIRS", 30)
    monkeypatch.setattr(quality, "CORRELATED", -1.0)
    again = import_model(tmp_path / "theirs.onnx", tmp_path / "ours.onnx", **told)
    loaded = Embedder.load(tmp_path / "ours.onnx")
    assert again.fingerprint == made.fingerprint and again.norm == loaded.typical_norm
    assert again.norm is not None and (again.norm.images, again.norm.genuine, again.norm.detector) == (60, 30, "none")
    assert made.input["flip"] == chosen.flip and made.input["colour_order"] == chosen.colour
    kept = import_model(tmp_path / "theirs.onnx", tmp_path / "kept.onnx", flip=False, **told)
    assert len(kept.trials) == 8 and not any(trial.flip for trial in kept.trials)
    photos = [np.asarray(Image.open(tmp_path / f"{i}-{n}.png")) for i in range(30) for n in (0, 1)]
    crops = np.stack([SPEC.fit(photo) for photo in photos])
    top = next(t for t in made.trials if (t.colour, t.scaling, t.flip) == ("rgb", "x / 255", True))
    vectors = wanted(crops, InputSpec(SIDE, SIDE, (0, 0, 0), (1, 1, 1), "rgb", "stretch", flip=True))
    genuine = (vectors[::2] * vectors[1::2]).sum(axis=1)
    impostor = (vectors[::2] * np.roll(vectors[1::2], -1, axis=0)).sum(axis=1)
    spread = np.sqrt((genuine.var() + impostor.var()) / 2)
    assert top.separation == pytest.approx((genuine.mean() - impostor.mean()) / spread, rel=0.02)


def test_pairs_are_drawn_from_a_folder_of_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    for person in range(12):
        (tmp_path / f"people/{person:02d}").mkdir(parents=True)
        face = rng.integers(0, 256, (SIDE, SIDE, 3))
        for number in range(3 if person else 1):  # one of a single photo
            pixels = np.clip(face + rng.normal(0, 10, face.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).resize((64, 64)).save(tmp_path / f"people/{person:02d}/{number}.png")
    drawn = pairs_among(open_dataset(tmp_path / "people"), 24)
    assert drawn.same.sum() == 11 and len(drawn) == 22 and "00" not in {path[:2] for path in drawn.a + drawn.b}
    assert all((a[:2] == b[:2]) == same and a != b for a, b, same in zip(drawn.a, drawn.b, drawn.same, strict=True))
    assert len({*drawn.a, *drawn.b}) <= 24 and len({*zip(drawn.a, drawn.b, strict=True)}) == len(drawn)
    (tmp_path / "theirs.onnx").write_bytes(recognizer().SerializeToString())
    told: dict[str, Any] = {"size": SIDE, "pairs": tmp_path / "people", "detector": "none"}
    monkeypatch.setattr(model_import, "SURE", 0.0)  # this network knows no faces
    made = import_model(tmp_path / "theirs.onnx", tmp_path / "ours.onnx", **told)
    assert 30 <= made.images <= 33 and max(trial.auc for trial in made.trials) > 0.9
    with pytest.raises(FacewrightError, match="--images"):
        import_model(tmp_path / "theirs.onnx", tmp_path / "ours.onnx", photos=tmp_path, **told)
    shutil.rmtree(tmp_path / "people/02")
    for person in range(3, 12):
        shutil.rmtree(tmp_path / f"people/{person:02d}")
    with pytest.raises(FacewrightError, match="two people"):
        pairs_among(open_dataset(tmp_path / "people"), 24)


def test_templates() -> None:
    assert for_corners(ARCFACE) == ARCFACE_CORNERS
    assert parse_template("ffhq", 512) == FFHQ and set(NAMED) == {"arcface", "ffhq", "mtcnn", "dlib"}
    text = ",".join(str(112 * value) for point in ARCFACE.points for value in point)
    np.testing.assert_allclose(parse_template(text, 112).points, ARCFACE.points)
    assert for_corners(parse_template("box:0.5", 160)).rule == "box"
    for wrong in ("round", "1,2,3", "box:x", "nan," * 9 + "1"):
        with pytest.raises(FacewrightError):
            parse_template(wrong, 112)
