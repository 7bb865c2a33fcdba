"""Unit vectors: what they are made of, what makes two of them comparable, and what is no embedder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facewright import bundle as bundles
from facewright.data.augment import normalise
from facewright.embedding import Embedder, open_model, similarities, similarity
from facewright.errors import BundleError, DataError, UnknownName, UsageError
from facewright.inference import Classifier
from facewright.specs import HeadSpec
from fixtures.faces import SIDE, SPEC, saved, small_bundle

DATA = Path(__file__).parents[1] / "../shared"


def noise(count: int, size: int = SIDE, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), dtype=np.uint8))


def reference(bundle: bundles.Bundle, pixels: torch.Tensor) -> np.ndarray:
    """The body's features (or the head's embedding) at unit length, said in one line each."""
    model = bundle.model()
    features = model.forward_features(normalise(pixels, bundle.spec))
    if bundle.head is not None:
        features = model.get_submodule(model.classifier_name).embed(features)
    vectors = features.double().numpy()
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(
    "head",
    [None, HeadSpec(kind="cosine", embedding=8, scale=16.0), HeadSpec(kind="two-layer"), HeadSpec(embedding=6)],
)
def test_an_embedding_is_what_the_last_layer_sees_at_unit_length(head: HeadSpec | None) -> None:
    bundle = small_bundle(head=head)
    vectors = Embedder(bundle).embed(noise(5))
    assert vectors.dtype == np.float32
    assert vectors.shape == (5, Embedder(bundle).width)
    np.testing.assert_allclose(vectors, reference(bundle, noise(5)), atol=1e-6)
    np.testing.assert_allclose((vectors.astype(np.float64) ** 2).sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
def test_norms_are_those_of_the_features(flip: bool) -> None:
    bundle = replace(small_bundle(), spec=replace(SPEC, flip=flip))
    pixels = noise(5).permute(0, 2, 3, 1).numpy()
    vectors, norms = Embedder(bundle).embed_with_norms(pixels)
    features = bundle.model().forward_features(normalise(noise(5), SPEC)).detach().numpy()
    np.testing.assert_allclose(norms, np.linalg.norm(features, axis=1), rtol=1e-5)
    np.testing.assert_array_equal(vectors, Embedder(bundle).embed(pixels))


def test_a_damaged_typical_norm_is_refused() -> None:
    assert Embedder(small_bundle()).typical_norm is None
    for held in ({"median": -1}, {"median": "x"}, [], 3):
        with pytest.raises(BundleError, match="norm"):
            _ = Embedder(replace(small_bundle(), provenance={"norm": held})).typical_norm


def test_a_bundle_without_classes_embeds_the_same_and_names_nothing() -> None:
    np.testing.assert_array_equal(Embedder(small_bundle(())).embed(noise(2)), Embedder(small_bundle()).embed(noise(2)))
    assert Embedder(small_bundle(())).fingerprint == Embedder(small_bundle()).fingerprint
    with pytest.raises(BundleError, match="no classes"):
        Classifier(small_bundle(()))


def test_flip_is_the_mean_with_the_mirror_image() -> None:
    pixels, plain = noise(4), Embedder(small_bundle())
    both = Embedder(replace(small_bundle(), spec=replace(SPEC, flip=True))).embed(pixels)
    mean = plain.embed(pixels).astype(np.float64) + plain.embed(pixels.flip(3))
    np.testing.assert_allclose(both, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6)
    mirrored = Embedder(replace(small_bundle(), spec=replace(SPEC, flip=True))).embed(pixels.flip(3))
    np.testing.assert_allclose(both, mirrored, atol=1e-6)


def test_the_batch_decides_nothing_but_the_last_bits() -> None:
    embedder, pixels = Embedder(small_bundle()), noise(70)  # more than one batch
    together = embedder.embed(pixels)
    alone = np.concatenate([embedder.embed(pixels[i : i + 1]) for i in range(70)])
    difference = similarities(together[:-1], together[1:]) - similarities(alone[:-1], alone[1:])
    assert np.abs(difference).max() <= 5e-7
    assert embedder.embed(noise(0)).shape == (0, embedder.width)


# What is changed -> whether embeddings can still be compared.
FINGERPRINTS = {
    "nothing": (lambda b: b, True),
    "names of classes": (lambda b: replace(b, classes=("x", "y", "z")), True),
    "thresholds": (lambda b: replace(b, thresholds=({"kind": "x"},)), True),
    "provenance": (lambda b: replace(b, provenance={"seed": 1}), True),
    "the classifier's weights": (
        lambda b: replace(b, weights={n: t + 1 if n.startswith("fc.") else t for n, t in b.weights.items()}),
        True,
    ),
    "one number of a weight": (
        lambda b: replace(b, weights={n: _nudged(t) if i == 0 else t for i, (n, t) in enumerate(b.weights.items())}),
        False,
    ),
    "the mean": (lambda b: replace(b, spec=replace(SPEC, mean=(0.5, 0.5, 0.4))), False),
    "the crop": (lambda b: replace(b, spec=replace(SPEC, crop=0.5)), False),
    "the flip": (lambda b: replace(b, spec=replace(SPEC, flip=True)), False),
    "the seed": (lambda b: small_bundle(seed=1), False),
    "the head": (lambda b: small_bundle(head=HeadSpec(kind="cosine", embedding=8, scale=16.0)), False),
}


def _nudged(tensor: torch.Tensor) -> torch.Tensor:
    changed = tensor.clone()
    changed.reshape(-1)[0] += 1e-3
    return changed


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_the_fingerprint_says_what_can_be_compared(name: str) -> None:
    change, same = FINGERPRINTS[name]
    bundle = small_bundle()
    assert (Embedder(change(bundle)).fingerprint == Embedder(bundle).fingerprint) is same


def test_the_layers_of_a_head_count_its_classes_do_not() -> None:
    bundle = small_bundle(head=HeadSpec(kind="cosine", embedding=8, scale=16.0))
    names = [
        name for name in bundle.weights if name.startswith("fc.layers") and bundle.weights[name].is_floating_point()
    ]
    own = Embedder(bundle).fingerprint
    for name, same in ((names[0], False), ("fc.weight", True)):
        weights = {n: _nudged(t) if n == name else t for n, t in bundle.weights.items()}
        assert (Embedder(replace(bundle, weights=weights)).fingerprint == own) is same


def test_files_are_read_cropped_and_a_broken_one_stops_nothing(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2 * SIDE, 2 * SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    embedder = Embedder.load(saved(tmp_path), crop=0.5)
    a, b, c = embedder.of_files([tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"])
    middle = torch.from_numpy(pixels[None, SIDE // 2 : -SIDE // 2, SIDE // 2 : -SIDE // 2].copy()).permute(0, 3, 1, 2)
    assert a.vector is not None
    np.testing.assert_array_equal(a.vector, Embedder(small_bundle()).embed(middle)[0])
    assert b.vector is None and "JPEG" in (b.error or "")
    assert c.vector is None and c.error == "no such file"


def test_a_similarity_is_a_clipped_cosine_in_either_order() -> None:
    a, b = np.float32([0.6, 0.8]), np.float32([0.8, 0.6])
    assert similarity(a, b) == similarity(b, a) == pytest.approx(0.96)
    assert similarity(a * np.float32(1.0000005), a) == 1.0  # rounding lifts it above 1
    with pytest.raises(UsageError, match="two times unit vectors"):
        similarities(np.zeros((2, 3)), np.zeros((3, 2)))


def test_broken_weights_are_said_not_compared() -> None:
    bundle = small_bundle()
    broken = {n: t * torch.nan if t.is_floating_point() else t for n, t in bundle.weights.items()}
    with pytest.raises(DataError, match="not finite"):
        Embedder(replace(bundle, weights=broken)).embed(noise(1))


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("patchnet", UsageError, "say patchnet@WEIGHTS"),  # fresh weights compare nothing
        ("patchnet@none", UsageError, "an architecture alone"),
        ("patchnot@x.safetensors", UnknownName, "did you mean 'patchnet'"),
        ("nowhere/model.safetensors", BundleError, "no such file"),
    ],
)
def test_what_is_no_embedder(model: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Embedder.load(model)


def test_a_run_directory_a_file_and_weights_are_one_embedder(tmp_path: Path) -> None:
    path = saved(tmp_path)
    by_folder, by_file, by_weights = (Embedder.load(model) for model in (tmp_path, str(path), f"patchnet@{path}"))
    assert by_folder.fingerprint == by_file.fingerprint == by_weights.fingerprint
    assert open_model(tmp_path).classes == ("ann", "bob", "cid")
    assert open_model(f"patchnet@{path}").classes == ()


@pytest.mark.realdata
def test_public_weights_tell_people_apart() -> None:
    weights, faces = DATA / "weights/mobilefacenet_arcface.safetensors", DATA / "data/celebrities12"
    if not (weights.is_file() and faces.is_dir()):
        pytest.skip("needs ../shared/weights and ../shared/data/celebrities12")
    embedder = Embedder.load(f"mobilefacenet@{weights}")
    people = sorted(faces.iterdir())[:3]
    found = embedder.of_files([path for person in people for path in sorted(person.glob("*.png"))[:4]])
    vectors = np.stack([one.vector for one in found if one.vector is not None]).reshape(3, 4, 128)
    one = similarities(vectors[:, 0], vectors[:, 1])
    two = similarities(vectors[[0, 1, 2], 0], vectors[[1, 2, 0], 0])
    assert one.min() > two.max()
