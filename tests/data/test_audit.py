"""The audit: what it counts, which copies it finds and which likenesses it leaves alone, what it warns of."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from facewright.data.audit import Audit, audit
from facewright.data.duplicates import near_pairs
from facewright.data.exporting import contact_sheet
from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.images import pixel_digest
from facewright.input_spec import InputSpec

SPEC = InputSpec(48, 48, (0.5,) * 3, (0.5,) * 3)
SHARED = Path(__file__).parents[2] / "../shared/data"


def scene(seed: int, size: int = 96) -> Image.Image:
    """Smooth noise over several scales, which is what a photo is to a thumbnail."""
    rng = np.random.default_rng(seed)
    layers = [
        np.array(
            Image.fromarray(rng.integers(0, 256, (n, n, 3), np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
        )
        for n in (3, 6, 12, 24)
    ]
    return Image.fromarray(np.mean(layers, axis=0).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(file).convert("RGB")


def folder(root: Path, images: dict[str, Image.Image]) -> PixelStore:
    for path, image in images.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / path)
    return PixelStore.open(open_dataset(root), SPEC, root.parent / "cache")


def healthy(classes: int = 2, each: int = 12) -> dict[str, Image.Image]:
    return {f"c{c}/{i:02d}.png": scene(100 * c + i) for c in range(classes) for i in range(each)}


def found(result: Audit) -> list[tuple[str, str, bool]]:
    return sorted((pair.first.path, pair.second.path, pair.mirrored) for pair in result.near)


# Near duplicates

COPIES = {
    "jpeg at quality 30": (lambda image: encoded(image, "JPEG", quality=30), False),
    "half the size": (lambda image: image.resize((48, 48), Image.Resampling.BILINEAR), False),
    "twice the size": (lambda image: image.resize((192, 192), Image.Resampling.BICUBIC), False),
    "blurred a little": (lambda image: image.filter(ImageFilter.GaussianBlur(1)), False),
    "lighter": (lambda image: image.point(lambda value: min(255, int(value * 1.15 + 5))), False),
    "grey": (lambda image: image.convert("L"), False),
    "mirrored": (lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), True),
    "mirrored, jpeg, small": (
        lambda image: encoded(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((64, 64)), "JPEG", quality=60),
        True,
    ),
}
OTHERS = {
    "another image": lambda image: scene(999),
    "upside down": lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "negative": lambda image: image.point(lambda value: 255 - value),
    "a new lower half": lambda image: Image.composite(
        image, scene(998), Image.fromarray(np.repeat(np.uint8([[255], [0]]), [48, 48], axis=0).repeat(96, axis=1))
    ),
}


@pytest.mark.parametrize("name", COPIES)
def test_altered_copies_are_found(tmp_path, name):
    change, mirrored = COPIES[name]
    result = audit(folder(tmp_path / "data", healthy() | {"c1/copy.png": change(scene(3))}))
    assert found(result) == [("c0/03.png", "c1/copy.png", mirrored)]
    assert result.near[0].similarity >= 0.96
    assert any("nearly the same image is in 'c0' and 'c1'" in warning for warning in result.warnings)


@pytest.mark.parametrize("name", OTHERS)
def test_other_images_are_not(tmp_path, name):
    assert audit(folder(tmp_path / "data", healthy() | {"c1/other.png": OTHERS[name](scene(3))})).near == ()


def test_images_of_one_colour_match_nothing():
    pixels = np.stack([np.full((20, 30, 3), grey, np.uint8) for grey in (0, 1, 128, 255)])
    assert near_pairs(pixels, [pixel_digest(image) for image in pixels]).pairs.shape == (0, 2)


def test_exact_copies_count_once_and_symmetrical_images_are_listed_once():
    half = np.array(scene(1))[:, :48]
    whole = np.concatenate([half, half[:, ::-1]], axis=1)
    darker = (whole * 0.9).astype(np.uint8)
    pixels = np.stack([whole, darker, whole, np.array(scene(2))])
    result = near_pairs(pixels, [pixel_digest(image) for image in pixels])
    assert result.pairs.tolist() == [[0, 1]]


def test_search_in_blocks_finds_what_one_block_finds(monkeypatch):
    images = [np.array(scene(seed % 9)) for seed in range(30)]
    pixels = np.stack([np.clip(image + np.int16(k // 9), 0, 255).astype(np.uint8) for k, image in enumerate(images)])
    digests = [pixel_digest(image) for image in pixels]
    whole = near_pairs(pixels, digests)
    assert len(whole.pairs) == sum(n * (n - 1) // 2 for n in [4, 4, 4, 3, 3, 3, 3, 3, 3])
    assert (np.diff(whole.similarity) <= 0).all()
    monkeypatch.setattr("facewright.data.duplicates.ROWS", 7)
    np.testing.assert_array_equal(near_pairs(pixels, digests).pairs, whole.pairs)


# The rest of the audit


def test_healthy_data_gives_no_warning(tmp_path):
    result = audit(folder(tmp_path / "data", healthy()))
    assert result.warnings == () and result.exact == () and result.broken == ()
    assert result.counts == {"c0": 12, "c1": 12} and result.images == 24
    assert result.imbalance == 1.0 and result.balance == pytest.approx(1.0)
    assert result.sizes.common == ((96, 96, 24),)


def test_what_is_wrong_is_said(tmp_path):
    images = healthy() | {f"few/{i}.png": scene(500 + i, 40 + i) for i in range(2)}
    root = tmp_path / "data"
    folder(root, images)
    shutil.copy(root / "c0/05.png", root / "c0/05_again.png")
    shutil.copy(root / "c0/06.png", root / "c1/06_other.png")
    (root / "c1/torn.jpg").write_bytes(b"\xff\xd8\xff")
    result = audit(PixelStore.open(open_dataset(root), SPEC, tmp_path / "cache"))
    assert result.counts == {"c0": 13, "c1": 13, "few": 2}
    assert result.imbalance == 6.5 and 0 < result.balance < 1
    assert [item.path for item in result.broken] == ["c1/torn.jpg"]
    assert [[image.path for image in group.images] for group in result.exact] == [
        ["c0/05.png", "c0/05_again.png"], ["c0/06.png", "c1/06_other.png"],
    ]  # fmt: skip
    assert [group.across_classes for group in result.exact] == [False, True]
    assert result.sizes.smallest == (40, 40) and result.sizes.largest == (96, 96)
    said = "\n".join(result.warnings)
    for part in (
        "class 'few' has 2 images; fewer than 10",
        "unbalanced: class 'c0' has 13 images and 'few' 2",
        "1 file cannot be used: c1/torn.jpg",
        "2 images of 28 must be enlarged to 48 × 48",
        "the same image is in 'c0' and 'c1': c0/06.png and c1/06_other.png",
        "2 images repeat another one pixel by pixel (such as ",
    ):
        assert part in said


def test_leakage_across_given_parts_is_said(tmp_path):
    names = [f"{part}/c{c}/{part}{i}.png" for part in ("train", "test") for c in (0, 1) for i in range(10)]
    images = {name: scene(number) for number, name in enumerate(names)}
    again = images["train/c0/train4.png"]
    result = audit(folder(tmp_path / "data", images | {"test/c0/seen.png": again}))
    assert [group.across_splits for group in result.exact] == [True]
    assert "leakage: 1 image in more than one of the given parts" in "\n".join(result.warnings)
    near = folder(tmp_path / "more", images | {"test/c0/seen.png": encoded(again, "JPEG")})
    assert "likely leakage: 1 near duplicate across the given parts" in "\n".join(audit(near).warnings)


def test_to_dict_is_json(tmp_path):
    result = audit(folder(tmp_path / "data", healthy() | {"c1/copy.png": scene(0)}))
    content = json.loads(json.dumps(result.to_dict()))
    assert content["images"] == 25 and content["exact"][0]["across_classes"] is True
    assert content["exact"][0]["images"][1] == {"path": "c1/copy.png", "label": "c1", "split": None}
    assert content["statistics"]["mean"] == list(result.statistics.mean)


def test_one_class_has_no_balance(tmp_path):
    result = audit(folder(tmp_path / "data", healthy(classes=1)))
    assert result.imbalance is None and result.balance is None
    assert any("only one class" in warning for warning in result.warnings)


# The contact sheet


@pytest.mark.parametrize(
    ("classes", "each", "options"),
    [
        (1, 1, {}),
        (2, 12, {}),
        (7, 2, {"columns": 3}),  # the last row is not full, and each class leaves places empty
        (3, 4, {"columns": 50, "per_class": 1, "side": 20}),
        (5, 1, {"most_classes": 2}),
    ],
)
def test_contact_sheet_shows_every_class(tmp_path, classes, each, options):
    page = contact_sheet(folder(tmp_path / "data", healthy(classes, each)), **options)
    assert page.mode == "RGB"
    assert len(page.getcolors(page.width * page.height)) > 50


def test_contact_sheet_shortens_long_names(tmp_path):
    store = folder(tmp_path / "data", {f"{'a' * 200}/0.png": scene(1), "b<b>/0.png": scene(2)})
    assert contact_sheet(store, per_class=2).width < 1000


@pytest.mark.realdata
def test_listed_pairs_of_real_photos_are_the_same_photos(tmp_path):
    if not (SHARED / "celebrities12").is_dir():
        pytest.skip("needs the photos of ../shared/data/celebrities12 and orl40")
    spec = InputSpec(112, 112, (0.5,) * 3, (0.5,) * 3)
    result = audit(PixelStore.open(open_dataset(SHARED / "celebrities12"), spec, tmp_path))
    # Looked at one by one: 16 pairs, six of them mirrored or in another size.
    assert len(result.exact) == 1 and 10 <= len(result.near) <= 20
    assert all(pair.first.label == pair.second.label for pair in result.near)
    # Ten different photos of each person in one sitting: very alike, never the same.
    assert audit(PixelStore.open(open_dataset(SHARED / "orl40"), spec, tmp_path)).near == ()
